"""All that other slices use of the catalog, in one place."""

from modelfleet_server.catalog.channels import (
    channels_of,
    history_of,
    move_channel,
    prominent_releases,
)
from modelfleet_server.catalog.deltas import (
    Patch,
    find_delta,
    offer_delta,
    withdraw_delta,
)
from modelfleet_server.catalog.lifecycle import (
    assemble_release,
    fail_building,
    finish_building,
    on_closed,
    propose,
    retry_building,
)
from modelfleet_server.catalog.releases import (
    find_release,
    released_versions,
    releases_by_id,
    variants_by_digest,
)
from modelfleet_server.catalog.versions import (
    Material,
    NewVersion,
    add_variant,
    check_new,
    create_version,
    find_version,
    get_material,
    get_version,
    require_version,
    slots_of,
    variants_of,
)

__all__ = [
    "Material",
    "NewVersion",
    "Patch",
    "add_variant",
    "assemble_release",
    "channels_of",
    "check_new",
    "create_version",
    "fail_building",
    "find_delta",
    "find_release",
    "find_version",
    "finish_building",
    "get_material",
    "get_version",
    "history_of",
    "move_channel",
    "offer_delta",
    "on_closed",
    "prominent_releases",
    "propose",
    "released_versions",
    "releases_by_id",
    "require_version",
    "retry_building",
    "slots_of",
    "variants_by_digest",
    "variants_of",
    "withdraw_delta",
]
