"""Rolling a slot of a group back to one release, at once."""

from dataclasses import dataclass

from sqlmodel import Session, select

from modelfleet_manifests.release import Release
from modelfleet_server.catalog.service import find_release, releases_by_id
from modelfleet_server.devices.groups import find_group, members_of
from modelfleet_server.devices.tables import Group, SlotState
from modelfleet_server.kit.access import Actor
from modelfleet_server.rollouts.deployments import edit
from modelfleet_server.rollouts.domain import Event, State, after
from modelfleet_server.rollouts.drafts import Wish, create
from modelfleet_server.rollouts.gate import Outcome
from modelfleet_server.rollouts.service import active, first_step, note
from modelfleet_server.rollouts.tables import Rollout, RolloutWave
from modelfleet_server.trust.director import Director


@dataclass(frozen=True, slots=True)
class Return:
    """What a rollback did: who goes back, and who may not."""

    rollout: Rollout
    devices: int
    stay: tuple[str, ...]


def roll_back(
    session: Session, director: Director, wish: Wish, actor: Actor, *, now_ms: int
) -> Return:
    """Put a slot of a group on one release, at once and for all: a single step.

    Devices that may not return to it are listed, and keep what they run.

    Raises:
        NotFoundError: There is no such group or release.
    """
    group = find_group(session, wish.group)
    _ref, release = find_release(session, wish.model, wish.version)
    stay = _who_stays(session, group, wish.slot, release)
    for held in active(session, group.id, wish.slot):
        held.state = after(held.state, Event.REPLACE)
        held.reason = f"replaced by a rollback to {release.version}"
        held.changed_ms = now_ms
        session.add(held)
    rollout = create(session, wish, actor, now_ms=now_ms)
    step = first_step(rollout, release, "all", ())
    edit(session, director, group, wish.slot, lambda _steps: [step], now_ms)
    members = len(members_of(session, group.id))
    rollout.state, rollout.wave = State.RUNNING, 0
    rollout.reason = f"rolled back to {release.version}"
    session.add(rollout)
    session.add(
        RolloutWave(
            rollout_id=rollout.id, number=0, text="all", admitted=members,
            started_ms=now_ms, outcome=Outcome.PENDING,
        )
    )  # fmt: skip
    session.flush()
    note(session, rollout, actor, "rollout.rolled-back", now_ms)
    return Return(rollout, members - len(stay), tuple(stay))


def _who_stays(session: Session, group: Group, slot: str, release: Release) -> list[str]:
    """Return the members whose running release does not let them return to `release`."""
    rows = session.exec(
        select(SlotState).where(SlotState.group_id == group.id, SlotState.slot == slot)
    ).all()
    known = releases_by_id(session, [row.release for row in rows if row.release])
    stay = []
    for row in rows:
        runs = known.get(row.release or "")
        if runs is not None and runs.model == release.model:
            fine = runs.version == release.version or release.version in runs.rollback_to
            if not fine:
                stay.append(row.device)
    return sorted(stay)
