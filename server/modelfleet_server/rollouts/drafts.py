"""A rollout before it starts: what is wished for, what it would do, and its draft."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlmodel import Session

from modelfleet_manifests.release import ReleaseRef
from modelfleet_server.catalog.service import find_release
from modelfleet_server.deltas import service as deltas
from modelfleet_server.deltas.store import count_needs
from modelfleet_server.devices.groups import find_group
from modelfleet_server.kit.access import Actor
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.rollouts.domain import State, Wave, write_wave
from modelfleet_server.rollouts.gate import Gate
from modelfleet_server.rollouts.planning import Plan, plan
from modelfleet_server.rollouts.service import check_free, note
from modelfleet_server.rollouts.tables import Rollout


@dataclass(frozen=True, slots=True)
class Wish:
    """A rollout to be made.

    Attributes:
        group: Name of the group.
        waves: In order; the last one is `all`.
        gate: Between waves; None widens as soon as a wave is through.
        skip_missing: Go on although some members have no variant.
    """

    group: str
    slot: str
    model: str
    version: str
    waves: tuple[Wave, ...]
    gate: Gate | None = None
    skip_missing: bool = False


def preview(session: Session, wish: Wish) -> Plan:
    """Return what a rollout would do; changes nothing.

    Raises:
        NotFoundError: There is no such group or release.
        InvalidError: A wave lists a device that cannot take part.
    """
    group = find_group(session, wish.group)
    _ref, release = find_release(session, wish.model, wish.version)
    return plan(session, group, wish.slot, release, list(wish.waves))


def create(session: Session, wish: Wish, actor: Actor, *, now_ms: int) -> Rollout:
    """Make a draft.

    Raises:
        NotFoundError: There is no such group or release.
        InvalidError: Members lack a variant, or the waves make no sense.
        ConflictError: Another rollout holds the slot of the group.
    """
    group = find_group(session, wish.group)
    ref, release = find_release(session, wish.model, wish.version)
    _check_waves(wish.waves)
    check_free(session, group, wish.slot)
    made = preview(session, wish)
    _check_variants(made, wish)
    if find_lacking(session, wish, made)[1]:
        deltas.request(session, ref, actor=str(actor), at_ms=now_ms)
    rollout = Rollout(
        id=new_id(),
        group_id=group.id,
        group_name=group.name,
        slot=wish.slot,
        release=ref.id,
        model=release.model,
        version=release.version,
        state=State.DRAFT,
        step=new_id(),
        salt=new_id(),
        waves_json=json.dumps([write_wave(wave) for wave in wish.waves]),
        gate_json=json.dumps(asdict(wish.gate)) if wish.gate else None,
        created_by=str(actor),
        created_ms=now_ms,
        changed_ms=now_ms,
    )
    session.add(rollout)
    session.flush()
    note(session, rollout, actor, "rollout.created", now_ms)
    return rollout


def find_lacking(session: Session, wish: Wish, made: Plan) -> tuple[ReleaseRef, bool]:
    """Return the release, and whether deltas to it could help that nobody looked at yet.

    Raises:
        NotFoundError: There is no such release.
    """
    ref, release = find_release(session, wish.model, wish.version)
    return ref, deltas.lacks(session, count_needs(session, release, made.runs))


def _check_waves(waves: Sequence[Wave]) -> None:
    if not waves or write_wave(waves[-1]) != "all":
        raise InvalidError("the last wave must be all", "End the waves with --wave all.")


def _check_variants(made: Plan, wish: Wish) -> None:
    if not made.shares:
        raise InvalidError(
            f"no member of group {wish.group!r} can run {wish.model} {wish.version}",
            "See why: modelfleet rollout plan.",
        )
    if made.left_out and not wish.skip_missing:
        first = made.left_out[0]
        raise InvalidError(
            f"{len(made.left_out)} devices have no variant, first {first.device}: "
            f"{first.reason}",
            "Publish a variant for it, or say --skip-missing to leave them out.",
            devices=[one.device for one in made.left_out],
        )
