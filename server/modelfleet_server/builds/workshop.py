"""What `catalog`, which lies below, needs of builds; the composition root hands it over."""

from collections.abc import Mapping
from functools import partial

from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.release import Schema
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.builds import children, service
from modelfleet_server.builds.recipes import DEFAULT_PROFILES
from modelfleet_server.catalog.workshop import Workshop


def make_workshop(
    blobs: BlobStore, profiles: Mapping[str, Profile] | None = None
) -> Workshop:
    """Return the part that checks masters and asks for variants.

    Args:
        blobs: Where masters are.
        profiles: All that there are; None for the shipped ones.
    """

    def inspect(digest: str) -> Schema:
        return children.inspect(blobs.path_of(digest)).schema

    queue = partial(service.queue, known=profiles)
    return Workshop(inspect=inspect, queue=queue, profiles=DEFAULT_PROFILES)
