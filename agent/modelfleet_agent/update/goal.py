"""What a slot is to become, with all that is needed to get there without asking again."""

from collections.abc import Callable, Mapping

import msgspec

from modelfleet_agent.store.record import FileEntry, Record
from modelfleet_manifests.deployment import Tighten
from modelfleet_manifests.document import NotUnderstood
from modelfleet_manifests.release import Demands, File, Release, Variant
from modelfleet_manifests.wanted import Documents, Wanted


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """A release in one variant, wanted in a slot; journalled, so only ever add fields.

    Attributes:
        record: The release as this device keeps it.
        variant: Name of the variant.
        step: The deciding step; None for a pin and for a repair.
        self_test_ms: The longest that the self-test may take.
        trial_ms: How long the new session must serve before the trial ends.
        trial_errors: How many failed requests the trial survives.
        repair: It runs already, but a file of it was found altered.
    """

    record: Record
    variant: str
    step: str | None = None
    self_test_ms: int = 60_000
    trial_ms: int = 2_000
    trial_errors: int = 0
    repair: bool = False

    def is_same(self, other: "Goal | None") -> bool:
        """Say whether work on `other` is work on this goal."""
        return other is not None and (self.record.key, self.step) == (
            other.record.key,
            other.step,
        )


def goal_of(
    wanted: Wanted, releases: Mapping[str, Release], documents: Documents
) -> Goal | None:
    """Return the goal that an answer of the resolver asks for; None where it keeps."""
    if wanted.release is None or wanted.variant is None:
        return None
    release = releases.get(wanted.release.id)
    if release is None:
        return None
    demands = tighten(release.demands, _gates(documents, wanted.step))
    return Goal(
        record=record_of(wanted.release.id, release, wanted.variant),
        variant=wanted.variant.name,
        step=wanted.step,
        self_test_ms=demands.self_test_ms,
        trial_ms=demands.trial_ms,
        trial_errors=demands.trial_errors,
    )


def record_of(release_id: str, release: Release, variant: Variant) -> Record:
    """Return what the store keeps of a verified release."""
    return Record(
        release=release_id,
        model=release.model,
        version=release.version,
        profile=variant.profile,
        providers=tuple(variant.providers),
        files=tuple(_entry(file) for file in variant.files),
        golden=_entry(variant.golden.file),
        atol=variant.golden.atol,
        rtol=variant.golden.rtol,
    )


def tighten(demands: Demands, gates: Tighten | None) -> Demands:
    """Return the stricter of both, demand by demand: a deployment never loosens one."""
    if gates is None:
        return demands
    return Demands(
        self_test_ms=_stricter(min, demands.self_test_ms, gates.self_test_ms),
        trial_ms=_stricter(max, demands.trial_ms, gates.trial_ms),
        trial_errors=_stricter(min, demands.trial_errors, gates.trial_errors),
    )


def _stricter(choose: Callable[[int, int], int], demand: int, gate: int | None) -> int:
    return demand if gate is None else choose(demand, gate)


def _entry(file: File) -> FileEntry:
    return FileEntry(name=file.name, digest=file.digest, length=file.length)


def _gates(documents: Documents, step: str | None) -> Tighten | None:
    for deployment in documents.deployments.values():
        if isinstance(deployment, NotUnderstood):
            continue
        for slot in deployment.slots.values():
            for one in slot.steps:
                if one.id == step:
                    return one.gates
    return None
