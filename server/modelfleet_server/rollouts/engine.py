"""The rollout engine: a short tick over running rollouts, each under a lease.

It decides only from what is in the database, so it may stop at any instant and go on in
another process: a wave that was published is a row, and an outcome is computed anew.
"""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict

from sqlmodel import Session, col, select

from modelfleet_manifests.admission import admits
from modelfleet_server.devices.groups import members_of
from modelfleet_server.devices.tables import Device, Group, SlotState
from modelfleet_server.kit.access import system
from modelfleet_server.kit.clock import now_ms as read_clock
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import AppError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.rollouts import service
from modelfleet_server.rollouts.deployments import steps_of
from modelfleet_server.rollouts.domain import ACTIVE, Event, State, after
from modelfleet_server.rollouts.gate import (
    Evidence,
    Gate,
    Judgement,
    Outcome,
    Tally,
    judge_wave,
)
from modelfleet_server.rollouts.tables import Rollout, RolloutWave
from modelfleet_server.telemetry.domain import Counts
from modelfleet_server.telemetry.service import sum_by_device
from modelfleet_server.trust.director import Director

log = logging.getLogger(__name__)

ACTOR = system("rollouts")
LEASE_MS = 30_000
WAIT_MS = 300_000
"""How long a rollout waits for its deltas; then those that are not made yet come whole."""

HEARD_MS = 180_000
"""A device that was not heard of for this long does not hold a wave up."""

LOOK_BACK_MS = 15 * 60_000
"""How far back answers of the release before count for the comparison."""

TICKED = (State.PREPARING, State.RUNNING)
NO_GATE = Gate(min_labelled=0)


class RolloutEngine:
    """Ticks running rollouts until it is stopped.

    Args:
        database: The server's.
        director: Signs what widens or undoes.
        tick_s: Seconds between two ticks.
        wait_ms: How long a rollout waits for its deltas.
        clock: Returns Unix milliseconds.
    """

    def __init__(
        self,
        database: Database,
        director: Director,
        *,
        tick_s: float = 1.0,
        wait_ms: int = WAIT_MS,
        clock: Callable[[], int] = read_clock,
    ) -> None:
        self._database, self._director, self._clock = database, director, clock
        self._tick_s, self._wait_ms = tick_s, wait_ms
        self._owner = new_id()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Tick in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="rollouts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop ticking; returns when the last tick is over."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._tick_s):
            try:
                self.tick()
            except Exception:
                log.exception("a tick of the rollouts failed; the next one tries again")

    def tick(self) -> int:
        """Look once at every running rollout that nobody else holds; return how many."""
        with self._database.read() as session:
            running = session.exec(
                select(Rollout.id).where(col(Rollout.state).in_(TICKED))
            ).all()
            orphans = session.exec(
                select(Rollout.id).where(
                    col(Rollout.state).in_(ACTIVE),
                    col(Rollout.group_id).not_in(select(Group.id)),
                )
            ).all()
        for rollout_id in orphans:
            with self._database.write() as session:
                end_orphan(session, rollout_id, now_ms=self._clock())
        for rollout_id in sorted(set(running) - set(orphans)):
            try:
                self._tick_one(rollout_id)
            except AppError:
                # one that cannot go on must not keep the others waiting
                log.exception(
                    "rollout %s cannot go on; the next tick tries again", rollout_id
                )
        return len(running)

    def _tick_one(self, rollout_id: str) -> None:
        with self._database.write() as session:
            rollout = self._lease(session, rollout_id)
            if rollout is None:
                return
            if rollout.state is State.PREPARING:
                begin_prepared(
                    session, self._director, rollout, self._wait_ms, now_ms=self._clock()
                )
            else:
                advance(session, self._director, rollout, now_ms=self._clock())

    def _lease(self, session: Session, rollout_id: str) -> Rollout | None:
        now = self._clock()
        rollout = session.get(Rollout, rollout_id)
        if rollout is None or rollout.state not in TICKED:
            return None
        if rollout.lease_owner != self._owner and rollout.lease_until_ms > now:
            return None
        rollout.lease_owner, rollout.lease_until_ms = self._owner, now + LEASE_MS
        session.add(rollout)
        return rollout


def begin_prepared(
    session: Session, director: Director, rollout: Rollout, wait_ms: int, *, now_ms: int
) -> None:
    """Start a rollout whose deltas are made, or that waited for them long enough."""
    waited_ms = now_ms - rollout.changed_ms
    if waited_ms >= wait_ms or not service.waits_for_deltas(session, rollout):
        service.start(session, director, rollout, ACTOR, now_ms=now_ms)


def end_orphan(session: Session, rollout_id: str, *, now_ms: int) -> None:
    """End a rollout whose group was deleted: nobody listens to its document any more."""
    rollout = session.get(Rollout, rollout_id)
    if rollout is None or rollout.state not in ACTIVE:
        return
    rollout.state = after(rollout.state, Event.REPLACE)
    rollout.reason, rollout.changed_ms = "its group was deleted", now_ms
    session.add(rollout)
    service.note(session, rollout, ACTOR, "rollout.ended", now_ms)


def advance(session: Session, director: Director, rollout: Rollout, *, now_ms: int) -> None:
    """Judge the wave that is out, and widen, finish, halt or pause accordingly."""
    wave = session.get(RolloutWave, (rollout.id, rollout.wave))
    if wave is None:
        return
    gate = service.gate_of(rollout) or NO_GATE
    evidence = gather(session, rollout, wave, now_ms)
    if not _has_incumbent(session, rollout):
        gate = Gate(**{**asdict(gate), "min_labelled": 0})
    judgement = judge_wave(gate, evidence)
    last = rollout.wave + 1 == len(json.loads(rollout.waves_json))
    _note(wave, judgement, evidence, now_ms)
    session.add(wave)
    if judgement.outcome is Outcome.BREACH and service.gate_of(rollout) is not None:
        _halt(session, director, rollout, gate, judgement, now_ms)
    elif last:
        _finish(session, director, rollout, evidence, gate, now_ms)
    elif judgement.outcome is Outcome.PASS:
        service.send_wave(session, director, rollout, rollout.wave + 1, now_ms=now_ms)
    elif judgement.outcome is not Outcome.PENDING:
        service.move(
            session, director, rollout, Event.STARVE, ACTOR,
            now_ms=now_ms, reason=judgement.reason,
        )  # fmt: skip


def gather(session: Session, rollout: Rollout, wave: RolloutWave, now_ms: int) -> Evidence:
    """Return what is known of the wave that is out."""
    admitted = _admitted(session, rollout)
    heard = {one.id for one in admitted if one.heard_ms >= now_ms - HEARD_MS}
    states = {
        row.device: row
        for row in session.exec(
            select(SlotState).where(
                SlotState.slot == rollout.slot, col(SlotState.device).in_(heard)
            )
        )
    }
    # In its trial a device may still put the release back: it is not through yet.
    running = {
        one
        for one, row in states.items()
        if row.release == rollout.release and row.intact and row.phase == "idle"
    }
    failed = {
        one
        for one, row in states.items()
        if one not in running and row.reason == "quarantined"
    }
    counts = sum_by_device(
        session, rollout.slot, since_ms=rollout.created_ms - LOOK_BACK_MS
    )
    before = _incumbent(session, rollout)
    members = {one.id for one in members_of(session, rollout.group_id)}
    return Evidence(
        candidate=_tallies(counts, rollout.release, {one.id for one in admitted}),
        incumbent=_tallies(counts, before, members) if before else [],
        expected=len(heard),
        running=len(running),
        failed=len(failed),
        waited_ms=now_ms - wave.started_ms,
    )


def _admitted(session: Session, rollout: Rollout) -> list[Device]:
    steps = steps_of(session, rollout.group_id, rollout.slot)
    step = next((one for one in steps if one.id == rollout.step), None)
    if step is None:
        return []
    return [
        device
        for device in members_of(session, rollout.group_id)
        if admits(step.admit, device.enrolment, json.loads(device.labels_json))
    ]


def _incumbent(session: Session, rollout: Rollout) -> str | None:
    """Return the release below the rollout's step: what it is compared with."""
    steps = steps_of(session, rollout.group_id, rollout.slot)
    below = [one for one in steps if one.id != rollout.step]
    release = below[0].release.id if below else None
    return release if release != rollout.release else None


def _has_incumbent(session: Session, rollout: Rollout) -> bool:
    return _incumbent(session, rollout) is not None


def _tallies(counts: list[Counts], release: str, devices: set[str]) -> list[Tally]:
    return [
        Tally(one.device, one.requests, one.errors, one.labelled, one.hits)
        for one in counts
        if one.release == release and one.device in devices
    ]


def _note(wave: RolloutWave, judgement: Judgement, evidence: Evidence, now_ms: int) -> None:
    wave.outcome, wave.reason = judgement.outcome, judgement.reason[:1000]
    wave.evidence_json = json.dumps(
        {
            "expected": evidence.expected,
            "running": evidence.running,
            "failed": evidence.failed,
            "drop": judgement.drop,
            "low": judgement.low,
            "high": judgement.high,
            "samples": judgement.samples,
        }
    )
    if judgement.outcome is not Outcome.PENDING:
        wave.decided_ms = now_ms


def _halt(
    session: Session,
    director: Director,
    rollout: Rollout,
    gate: Gate,
    judgement: Judgement,
    now_ms: int,
) -> None:
    service.move(
        session, director, rollout, Event.BREACH, ACTOR,
        now_ms=now_ms, reason=judgement.reason,
    )  # fmt: skip
    if gate.undo and _has_incumbent(session, rollout):
        service.move(
            session, director, rollout, Event.UNDO, ACTOR,
            now_ms=now_ms, reason=f"undone by its gate: {judgement.reason}",
        )  # fmt: skip


def _finish(
    session: Session,
    director: Director,
    rollout: Rollout,
    evidence: Evidence,
    gate: Gate,
    now_ms: int,
) -> None:
    """End a rollout whose last wave is out, once every device heard of is through."""
    settled = evidence.running + evidence.failed
    if settled < evidence.expected and evidence.waited_ms < gate.deadline_ms:
        return
    reason = f"{evidence.running} of {evidence.expected} devices heard of lately run it"
    service.move(
        session, director, rollout, Event.FINISH, ACTOR, now_ms=now_ms, reason=reason
    )
