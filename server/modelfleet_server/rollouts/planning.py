"""What a rollout would do before it does it: who, which variant, how many bytes."""

import json
from collections import Counter
from dataclasses import dataclass, replace

from sqlmodel import Session, col, select

from modelfleet_manifests.admission import plan_admission
from modelfleet_manifests.profiles import best_variant, read_facts
from modelfleet_manifests.release import Release, Variant
from modelfleet_server.catalog.service import variants_by_digest
from modelfleet_server.deltas.store import Cost, Runs, base_files, cost_of
from modelfleet_server.devices.groups import members_of
from modelfleet_server.devices.tables import Device, Group, Member, SlotState
from modelfleet_server.rollouts.domain import Candidate, Wave, reach_of


@dataclass(frozen=True, slots=True)
class Share:
    """What one device would get.

    Attributes:
        variant: The variant's name.
        method: `delta`, `packed`, `full`, or `none` where it has the files.
        length: Bytes to download, golden inputs among them.
        full: Bytes of all files as they are.
    """

    device: str
    enrolment: str
    profile: str
    variant: str
    runs: str
    method: str
    length: int
    full: int
    heard_ms: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A member that would get nothing, and why."""

    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan.

    Attributes:
        waves: Devices admitted after each wave.
        runs: What the devices run now.
    """

    shares: tuple[Share, ...]
    left_out: tuple[LeftOut, ...]
    waves: tuple[int, ...]
    runs: tuple[Runs, ...] = ()

    @property
    def length(self) -> int:
        """Bytes to download in all."""
        return sum(share.length for share in self.shares)

    @property
    def candidates(self) -> list[Candidate]:
        """The members that take part."""
        return [
            Candidate(one.device, one.enrolment, one.profile, one.heard_ms)
            for one in self.shares
        ]


def plan(
    session: Session, group: Group, slot: str, release: Release, waves: list[Wave]
) -> Plan:
    """Return what rolling `release` out over `group` would do.

    Raises:
        InvalidError: A wave lists a device that cannot take part.
    """
    shares: list[Share] = []
    left: list[LeftOut] = []
    runs: Counter[tuple[str, str]] = Counter()
    states = _states(session, group, slot)
    costs = _Costs(session, {one.digest for one in states.values() if one.digest})
    for device in members_of(session, group.id):
        variant = best_variant(read_facts(json.loads(device.facts_json)), release.variants)
        if variant is None:
            left.append(LeftOut(device.id, f"no variant for profile {device.profile}"))
            continue
        state = states.get(device.id)
        shares.append(_share(device, state, variant, costs))
        if state is not None and state.digest and state.intact:
            runs[device.facts_json, state.digest] += 1
    made = Plan(
        tuple(shares),
        tuple(left),
        (),
        tuple(Runs(facts, digest, count) for (facts, digest), count in runs.items()),
    )
    return replace(made, waves=tuple(_count(made.candidates, waves)))


def _states(session: Session, group: Group, slot: str) -> dict[str, SlotState]:
    rows = session.exec(
        select(SlotState)
        .join(Member, col(Member.device) == col(SlotState.device))
        .where(Member.group_id == group.id, SlotState.slot == slot)
    )
    return {row.device: row for row in rows}


class _Costs:
    """What an update costs, from one variant to another; each pair is looked up once."""

    def __init__(self, session: Session, digests: set[str]) -> None:
        self._session = session
        self._known = variants_by_digest(session, digests)
        self._costs: dict[tuple[str, str | None], Cost] = {}

    def of(self, variant: Variant, runs: str | None) -> Cost:
        """Return the cost for a device that runs the variant with the digest `runs`."""
        key = (variant.digest, runs)
        if key not in self._costs:
            old = self._known.get(runs or "")
            # the digest of a variant of one file is that of its file
            bases = base_files(variant, old) if old else [runs] * len(variant.files)
            self._costs[key] = cost_of(self._session, variant, bases)
        return self._costs[key]


def _count(members: list[Candidate], waves: list[Wave]) -> list[int]:
    """Return how many devices are admitted after each wave; the salt does not matter."""
    listed: tuple[str, ...] = ()
    counts: list[int] = []
    for wave in waves:
        reach = reach_of(wave, listed, members)
        listed = reach.listed
        if reach.count is None:
            counts.append(len(members))
            continue
        admitted = plan_admission(
            "0" * 32, [one.enrolment for one in members], reach.count, apart=listed
        )
        counts.append(max(len(admitted.members) + len(listed), *counts, 0))
    return counts


def _share(
    device: Device, state: SlotState | None, variant: Variant, costs: _Costs
) -> Share:
    runs = state.digest if state else None
    same = runs == variant.digest
    cost = Cost("none", 0) if same else costs.of(variant, runs)
    files = (*variant.files, variant.golden.file)
    return Share(
        device=device.id,
        enrolment=device.enrolment,
        profile=device.profile,
        variant=variant.name,
        runs=(state.version or "") if state else "",
        method=cost.method,
        length=cost.length,
        full=sum(file.length for file in files),
        heard_ms=device.heard_ms,
    )
