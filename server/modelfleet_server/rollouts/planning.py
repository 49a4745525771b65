"""What a rollout would do before it does it: who, which variant, how many bytes."""

import json
from dataclasses import dataclass

from sqlmodel import Session, select

from modelfleet_manifests.admission import plan_admission
from modelfleet_manifests.profiles import best_variant, read_facts
from modelfleet_manifests.release import Release, Variant
from modelfleet_server.catalog.service import find_delta
from modelfleet_server.devices.groups import members_of
from modelfleet_server.devices.tables import Device, Group, SlotState
from modelfleet_server.rollouts.domain import Candidate, Wave, reach_of


@dataclass(frozen=True, slots=True)
class Share:
    """What one device would get.

    Attributes:
        variant: The variant's name.
        method: `delta`, `full`, or `none` where it has the files.
        length: Bytes to download.
        full: Bytes of the whole variant.
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
    """The whole plan; `waves` counts the devices admitted after each wave."""

    shares: tuple[Share, ...]
    left_out: tuple[LeftOut, ...]
    waves: tuple[int, ...]

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
    for device in members_of(session, group.id):
        variant = best_variant(read_facts(json.loads(device.facts_json)), release.variants)
        if variant is None:
            left.append(LeftOut(device.id, f"no variant for profile {device.profile}"))
        else:
            shares.append(_share(session, device, slot, variant))
    made = Plan(tuple(shares), tuple(left), ())
    return Plan(made.shares, made.left_out, tuple(_count(made.candidates, waves)))


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


def _share(session: Session, device: Device, slot: str, variant: Variant) -> Share:
    state = session.exec(
        select(SlotState).where(SlotState.device == device.id, SlotState.slot == slot)
    ).first()
    runs = state.digest if state else None
    full = sum(file.length for file in variant.files)
    method, length = "full", full
    if runs == variant.digest:
        method, length = "none", 0
    elif runs is not None:
        offer = find_delta(session, variant.files[0].digest, runs)
        if offer is not None and offer.length < full:
            method, length = "delta", offer.length
    return Share(
        device=device.id,
        enrolment=device.enrolment,
        profile=device.profile,
        variant=variant.name,
        runs=(state.version or "") if state else "",
        method=method,
        length=length,
        full=full,
        heard_ms=device.heard_ms,
    )
