"""What a device may run: the set `Allowed`, judged for one release and one slot.

Allowed = listed in verified metadata, and the slot permits model and schema, and the
hardware fits, and the version is not below the floor, and it is no forbidden downgrade,
and it is neither revoked nor stopped. Whoever signs online can only choose inside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from modelfleet_manifests.header import Minimum
from modelfleet_manifests.profiles import Facts, best_variant
from modelfleet_manifests.recalls import Recalls, subject_of
from modelfleet_manifests.release import Release, Variant
from modelfleet_manifests.semver import Version, is_lower


class Refusal(StrEnum):
    """Why a release is not allowed in a slot."""

    NOT_LISTED = "not-listed"
    SLOT = "slot-not-permitted"
    STOPPED = "stopped"
    REVOKED = "revoked"
    BELOW_FLOOR = "below-floor"
    DOWNGRADE = "downgrade"
    NO_VARIANT = "no-variant"


@dataclass(frozen=True, slots=True)
class SlotRule:
    """A model that a slot may hold, with the digest of the schema that it must have."""

    model: str
    schema: str


@dataclass(frozen=True, slots=True)
class TrustView:
    """What a device knows from verified metadata.

    Attributes:
        releases: Listed releases by id.
        slots: Which models and schemas each slot may hold, as the officers signed.
        recalls: Revocations and stops, sticky.
        floors: Lowest version per model.
        seen: Versions of the metadata.
        epoch: The director's epoch.
        fresh: Timestamp and snapshot are not expired: new releases may be installed.
    """

    releases: Mapping[str, Release] = field(default_factory=dict)
    slots: Mapping[str, tuple[SlotRule, ...]] = field(default_factory=dict)
    recalls: Recalls = field(default_factory=Recalls)
    floors: Mapping[str, str] = field(default_factory=dict)
    seen: Minimum = field(default_factory=Minimum)
    epoch: int = 0
    fresh: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """A variant to run, or why the release may not run here."""

    variant: Variant | None
    refusal: Refusal | None


def judge(
    release_id: str, slot: str, view: TrustView, facts: Facts, proven: frozenset[str]
) -> Verdict:
    """Return whether a release is Allowed in a slot of this device, and as which variant.

    Args:
        release_id: SHA-256 of the statement.
        slot: The slot's name.
        view: Verified metadata.
        facts: Of the device.
        proven: Ids of releases that this device ran to the end of a trial in this slot.
    """
    release = view.releases.get(release_id)
    if release is None:
        return Verdict(None, Refusal.NOT_LISTED)
    variant = best_variant(facts, release.variants)
    refusal = _refuse(release, release_id, slot, view) or _refuse_downgrade(
        release, view, proven
    )
    if refusal is None and variant is None:
        refusal = Refusal.NO_VARIANT
    subject = subject_of(release_id, release, variant)
    if refusal is None and view.recalls.blocks(subject):
        stopped = view.recalls.stops(subject)
        refusal = Refusal.STOPPED if stopped else Refusal.REVOKED
    return Verdict(variant if refusal is None else None, refusal)


def _refuse(
    release: Release, release_id: str, slot: str, view: TrustView
) -> Refusal | None:
    rule = SlotRule(release.model, release.schema.digest)
    if rule not in view.slots.get(slot, ()):
        return Refusal.SLOT
    subject = subject_of(release_id, release)
    if view.recalls.stops(subject):
        return Refusal.STOPPED
    if view.recalls.blocks(subject):
        return Refusal.REVOKED
    floor = view.floors.get(release.model)
    if floor is not None and is_lower(release.version, floor):
        return Refusal.BELOW_FLOOR
    return None


def _refuse_downgrade(
    release: Release, view: TrustView, proven: frozenset[str]
) -> Refusal | None:
    ran = [
        view.releases[one]
        for one in proven
        if one in view.releases
        and view.releases[one].model == release.model
        and not view.recalls.stops(subject_of(one, view.releases[one]))
    ]
    highest = max(ran, key=lambda one: Version(one.version), default=None)
    if highest is None or not is_lower(release.version, highest.version):
        return None
    return None if release.version in highest.rollback_to else Refusal.DOWNGRADE
