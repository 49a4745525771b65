"""Use cases of rollouts once there is a draft: start, move, undo, and where they stand."""

import json
from collections.abc import Sequence

from sqlmodel import Session, col, select

from modelfleet_manifests.admission import plan_admission
from modelfleet_manifests.deployment import Admit, Step, Tighten
from modelfleet_manifests.release import Release, ReleaseRef
from modelfleet_server.audit import service as audit
from modelfleet_server.catalog.service import releases_by_id
from modelfleet_server.deltas import service as deltas
from modelfleet_server.deltas.store import count_needs
from modelfleet_server.devices.tables import Group
from modelfleet_server.kit.access import Actor
from modelfleet_server.kit.errors import ConflictError, NotFoundError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.rollouts import stack
from modelfleet_server.rollouts.deployments import edit
from modelfleet_server.rollouts.domain import (
    ACTIVE,
    Event,
    State,
    after,
    parse_wave,
    reach_of,
)
from modelfleet_server.rollouts.gate import Gate, Outcome
from modelfleet_server.rollouts.planning import plan
from modelfleet_server.rollouts.tables import Rollout, RolloutWave
from modelfleet_server.trust.director import Director


def waits_for_deltas(session: Session, rollout: Rollout) -> bool:
    """Say whether deltas are being made that devices of the group could use."""
    if not deltas.is_pending(session, rollout.release):
        return False
    release = releases_by_id(session, [rollout.release])[rollout.release]
    made = plan(session, group_of(session, rollout), rollout.slot, release, [])
    return deltas.lacks(session, count_needs(session, release, made.runs))


def start(
    session: Session, director: Director, rollout: Rollout, actor: Actor, *, now_ms: int
) -> Rollout:
    """Put the rollout's step on top of the stack, and send out its first wave.

    A draft whose deltas are being made waits for them as `preparing`; started again, it
    does not wait any longer.

    Raises:
        MoveError: It was started before.
        ConflictError: Another rollout holds the slot, or a release below could not be
            returned to.
    """
    group = group_of(session, rollout)
    check_free(session, group, rollout.slot, but=rollout.id)
    waits = rollout.state is State.DRAFT and waits_for_deltas(session, rollout)
    rollout.state = after(rollout.state, Event.PREPARE if waits else Event.START)
    if waits:
        rollout.reason, rollout.changed_ms = "waits for its deltas to be made", now_ms
        session.add(rollout)
        note(session, rollout, actor, "rollout.preparing", now_ms)
        return rollout
    # Drawn now, when the enrolment ids are fixed: nobody could choose a low bucket.
    rollout.salt = new_id()
    send_wave(session, director, rollout, 0, now_ms=now_ms)
    note(session, rollout, actor, "rollout.started", now_ms)
    return rollout


def move(  # noqa: PLR0913 who, what and when
    session: Session,
    director: Director,
    rollout: Rollout,
    event: Event,
    actor: Actor,
    *,
    now_ms: int,
    reason: str = "",
) -> Rollout:
    """Pause, resume, finish, halt or undo a rollout.

    Raises:
        MoveError: It cannot from where it is.
        StackError: Its step is not where it must be for this.
    """
    was, state = rollout.state, after(rollout.state, event)
    step = rollout.step
    changes = {
        Event.PAUSE: lambda steps: stack.change(steps, step, stack.pause),
        Event.STARVE: lambda steps: stack.change(steps, step, stack.pause),
        Event.BREACH: lambda steps: stack.change(steps, step, stack.pause),
        Event.RESUME: lambda steps: stack.change(steps, step, stack.resume),
        Event.FINISH: lambda steps: stack.change(steps, step, stack.finish),
        Event.UNDO: lambda steps: stack.undo(steps, step),
    }
    if event in changes and was is not State.PREPARING:  # no step of it is out yet
        group = group_of(session, rollout)
        edit(session, director, group, rollout.slot, changes[event], now_ms)
    rollout.state, rollout.changed_ms = state, now_ms
    rollout.reason = reason or rollout.reason
    if event is Event.RESUME:
        _restart_clock(session, rollout, now_ms)
    session.add(rollout)
    note(session, rollout, actor, f"rollout.{event}", now_ms)
    return rollout


def send_wave(
    session: Session, director: Director, rollout: Rollout, number: int, *, now_ms: int
) -> None:
    """Publish one wave: one new version of the group's document, whatever its size."""
    group = group_of(session, rollout)
    release = releases_by_id(session, [rollout.release])[rollout.release]
    made = plan(session, group, rollout.slot, release, [])
    wave = parse_wave(json.loads(rollout.waves_json)[number])
    reach = reach_of(wave, json.loads(rollout.listed_json), made.candidates)
    members = [one.enrolment for one in made.candidates]
    count = len(members) if reach.count is None else reach.count
    admitted = plan_admission(rollout.salt, members, count, apart=reach.listed)
    to = admitted.to if reach.count is not None else "all"

    def change(steps: list[Step]) -> list[Step]:
        if any(step.id == rollout.step for step in steps):
            return stack.change(
                steps, rollout.step, lambda step: stack.widen(step, to, reach.listed)
            )
        known = releases_by_id(session, [rollout.release, *(s.release.id for s in steps)])
        return stack.put_on_top(
            steps, first_step(rollout, release, to, reach.listed), known
        )

    edit(session, director, group, rollout.slot, change, now_ms)
    rollout.wave, rollout.changed_ms = number, now_ms
    rollout.listed_json = json.dumps(reach.listed)
    rollout.reason = f"wave {number + 1}: {wave}"
    session.add(rollout)
    session.add(
        RolloutWave(
            rollout_id=rollout.id,
            number=number,
            text=str(wave),
            admitted=len(members)
            if to == "all"
            else len(admitted.members) + len(reach.listed),
            started_ms=now_ms,
            outcome=Outcome.PENDING,
        )
    )
    session.flush()


def find_rollout(session: Session, rollout_id: str) -> Rollout:
    """Return a rollout by its id, or by a beginning of it that is unique.

    Raises:
        NotFoundError: There is none, or more than one.
    """
    rows = session.exec(
        select(Rollout).where(col(Rollout.id).startswith(rollout_id)).limit(2)
    ).all()
    if len(rows) != 1:
        raise NotFoundError(
            f"there is no rollout {rollout_id!r}" if not rows else
            f"more than one rollout begins with {rollout_id!r}",
            "List them: modelfleet rollout list.",
            rollout=rollout_id,
        )  # fmt: skip
    return rows[0]


def group_of(session: Session, rollout: Rollout) -> Group:
    """Return the group of a rollout; never another one that took its name.

    Raises:
        NotFoundError: It was deleted.
    """
    group = session.get(Group, rollout.group_id)
    if group is None:
        raise NotFoundError(
            f"group {rollout.group_name!r} of rollout {rollout.id[:8]} was deleted",
            "Its devices keep what they run. Start a new rollout for another group.",
            rollout=rollout.id,
        )
    return group


def gate_of(rollout: Rollout) -> Gate | None:
    """Return a rollout's gate."""
    return Gate(**json.loads(rollout.gate_json)) if rollout.gate_json else None


def first_step(rollout: Rollout, release: Release, to: str, listed: Sequence[str]) -> Step:
    """Return the step that a rollout puts on top of a stack."""
    return Step(
        id=rollout.step,
        release=ReleaseRef(
            model=release.model, version=release.version, id=rollout.release
        ),
        admit=Admit(salt=rollout.salt, to=to, enrolments=list(listed), labels={}),
        gates=Tighten(),
    )


def active(session: Session, group_id: str, slot: str) -> Sequence[Rollout]:
    """Return the rollouts that hold a slot of a group."""
    return session.exec(
        select(Rollout).where(
            Rollout.group_id == group_id,
            Rollout.slot == slot,
            col(Rollout.state).in_(ACTIVE),
        )
    ).all()


def check_free(session: Session, group: Group, slot: str, *, but: str = "") -> None:
    """Return if no rollout but `but` holds a slot of a group.

    Raises:
        ConflictError: One does.
    """
    for held in active(session, group.id, slot):
        if held.id == but:
            continue
        raise ConflictError(
            f"rollout {held.id[:8]} of {held.model} {held.version} is {held.state} on slot "
            f"{slot!r} of group {group.name!r}",
            f"Finish it, or take it back: modelfleet rollout undo {held.id[:8]}.",
            rollout=held.id,
        )


def _restart_clock(session: Session, rollout: Rollout, now_ms: int) -> None:
    wave = session.get(RolloutWave, (rollout.id, rollout.wave))
    if wave is not None:
        wave.started_ms, wave.outcome = now_ms, Outcome.PENDING
        session.add(wave)


def note(
    session: Session, rollout: Rollout, actor: Actor, action: str, now_ms: int
) -> None:
    """Write a move into the audit log."""
    audit.record(
        session,
        str(actor),
        action,
        f"{rollout.group_name}/{rollout.slot}",
        {
            "rollout": rollout.id,
            "release": f"{rollout.model}@{rollout.version}",
            "state": rollout.state,
            "reason": rollout.reason,
        },
        at_ms=now_ms,
    )
