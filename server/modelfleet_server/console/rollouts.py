"""Rollouts as the pages show them: waves, gates with their numbers, possible moves."""

from dataclasses import dataclass, field

from sqlmodel import Session, col, func, select

from modelfleet_server.console import words
from modelfleet_server.devices.tables import SlotState
from modelfleet_server.rollouts.api import RolloutOut, WaveOut, out
from modelfleet_server.rollouts.deployments import steps_of
from modelfleet_server.rollouts.domain import ACTIVE, MOVES, Event, State, parse_wave
from modelfleet_server.rollouts.gate import Outcome
from modelfleet_server.rollouts.tables import Rollout

MAX_ACTIVE = 20
MAX_ENDED = 3
WIDTH = 1000
"""Of a gate's drawing, in its own units."""


@dataclass(frozen=True, slots=True)
class GateView:
    """A gate's numbers as text, and where they lie in its drawing.

    Attributes:
        text: In one sentence, for those who do not see the drawing.
        low: Left end of the interval, 0 to `WIDTH`.
        drawn: Whether there is an estimate to draw.
    """

    word: str
    shape: str
    tone: str
    text: str
    drop: str = ""
    interval: str = ""
    limit: str = ""
    sample: str = ""
    drawn: bool = False
    low: int = 0
    width: int = 0
    middle: int = 0
    zero: int = 0
    edge: int = 0


@dataclass(frozen=True, slots=True)
class WaveView:
    """One wave; `place` is `past`, `now` or `next`."""

    key: str
    title: str
    place: str
    shape: str
    tone: str
    count: str
    part: int
    gate: GateView
    has_gate: bool


@dataclass(frozen=True, slots=True)
class RolloutView:
    """One rollout; the `can_...` say which buttons make sense now."""

    key: str
    anchor: str
    title: str
    where: str
    word: str
    shape: str
    tone: str
    reason: str
    changed_ms: int
    wave: str
    can_pause: bool
    can_resume: bool
    can_undo: bool
    shows_waves: bool
    moves_href: str
    undo_href: str
    waves: list[WaveView] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class UndoView:
    """What an undo would do; shown before it is done."""

    rollout: RolloutView
    devices: int
    back_to: str


def rollouts_now(session: Session, group: str) -> list[RolloutView]:
    """Return the rollouts that go on, newest first, and the last few that ended.

    Args:
        session: Any.
        group: Name of the group to narrow to; empty for all.
    """
    rows = [
        *_newest(session, group, list(ACTIVE), MAX_ACTIVE),
        *_newest(session, group, [State.DONE, State.UNDONE], MAX_ENDED),
    ]
    return [view(session, row) for row in rows]


def view(session: Session, rollout: Rollout) -> RolloutView:
    """Return one rollout as the pages show it."""
    shown, look = out(session, rollout), words.ROLLOUT[rollout.state]
    can = {event for state, event in MOVES if state is rollout.state}
    return RolloutView(
        key=rollout.id,
        anchor=f"rollout-{rollout.id}",
        title=f"{rollout.model} {rollout.version}",
        where=f"slot {rollout.slot} of group {rollout.group_name}",
        word=look.word,
        shape=look.shape,
        tone=look.tone,
        reason=rollout.reason,
        changed_ms=rollout.changed_ms,
        wave=f"wave {max(rollout.wave, 0) + 1} of {len(shown.waves)}",
        can_pause=Event.PAUSE in can,
        can_resume=Event.RESUME in can,
        can_undo=Event.UNDO in can and _back_to(session, rollout) is not None,
        # of what went well nobody needs the steps any more
        shows_waves=rollout.state is not State.DONE,
        moves_href=f"/rollouts/{rollout.id}/moves",
        undo_href=f"/rollouts/{rollout.id}/undo",
        waves=[_wave(shown, number) for number in range(len(shown.waves))],
    )


def undo_of(session: Session, rollout: Rollout) -> UndoView:
    """Return whom an undo takes back, and to what; nothing changes."""
    devices = session.exec(
        select(func.count())
        .select_from(SlotState)
        .where(
            SlotState.group_id == rollout.group_id,
            SlotState.slot == rollout.slot,
            SlotState.release == rollout.release,
        )
    ).one()
    return UndoView(view(session, rollout), devices, _back_to(session, rollout) or "")


def _newest(session: Session, group: str, states: list[State], limit: int) -> list[Rollout]:
    statement = select(Rollout).where(col(Rollout.state).in_(states))
    if group:
        statement = statement.where(Rollout.group_name == group)
    newest_first = statement.order_by(
        col(Rollout.created_ms).desc(), col(Rollout.id).desc()
    )
    return list(session.exec(newest_first.limit(limit)))


def _back_to(session: Session, rollout: Rollout) -> str | None:
    """Return what lies below the rollout's step, if an undo would be allowed."""
    steps = steps_of(session, rollout.group_id, rollout.slot)
    if len(steps) > 1 and steps[0].id == rollout.step:
        return f"{steps[1].release.model} {steps[1].release.version}"
    return None


def _wave(rollout: RolloutOut, number: int) -> WaveView:
    title = f"Wave {number + 1}: {parse_wave(rollout.waves[number])}"
    sent = next((one for one in rollout.progress if one.number == number), None)
    if sent is None:
        return WaveView(
            str(number),
            title,
            "next",
            "circle",
            "plain",
            "to come",
            0,
            _no_gate(),
            has_gate=False,
        )
    running = int(sent.evidence.get("running") or 0)
    expected = int(sent.evidence.get("expected") or 0)
    now = number == rollout.wave and rollout.state in ACTIVE
    gate = _gate(rollout, sent)
    look = words.GATE[Outcome(sent.outcome)]
    return WaveView(
        key=str(number),
        title=title,
        place="now" if now else "past",
        shape="arrow" if now else look.shape,
        tone="plain" if now else look.tone,
        count=_progress(sent, running, expected),
        part=WIDTH * running // max(expected, 1),
        gate=gate,
        has_gate=rollout.gate is not None,
    )


def _progress(wave: WaveOut, running: int, expected: int) -> str:
    """Name the remainder too: who is silent, and where it failed."""
    if not wave.evidence:
        return f"{words.count(wave.admitted)} admitted"
    failed = int(wave.evidence.get("failed") or 0)
    text = f"{running} of {words.count(expected)} run it"
    text += f", {failed} failed" if failed else ""
    silent = wave.admitted - expected
    return f"{text}, {silent} silent lately" if silent > 0 else text


def _no_gate() -> GateView:
    return GateView("", "clock", "plain", "")


def _gate(rollout: RolloutOut, wave: WaveOut) -> GateView:
    look = words.GATE[Outcome(wave.outcome)]
    if rollout.gate is None:
        return _no_gate()
    limit = rollout.gate.max_drop / 1000
    labels = f"needs {rollout.gate.min_labelled} labelled answers per device"
    drop, low, high = (wave.evidence.get(name) for name in ("drop", "low", "high"))
    if drop is None or low is None or high is None:
        return GateView(
            look.word, look.shape, look.tone, wave.reason or labels,
            limit=words.points(limit), sample=labels,
        )  # fmt: skip
    left, right = min(low, -limit, 0) * 1.1, max(high, limit) * 1.1

    def place(value: float) -> int:
        return round((value - left) / (right - left) * WIDTH)

    samples = int(wave.evidence.get("samples") or 0)
    interval = f"{words.points(low)} to {words.points(high)}"
    return GateView(
        word=look.word,
        shape=look.shape,
        tone=look.tone,
        text=f"accuracy drop {words.points(drop)} points, 99 % interval {interval}, limit "
        f"{words.points(limit)}, from {samples:,} labelled answers: {look.word}",
        drop=words.points(drop),
        interval=interval,
        limit=words.points(limit),
        sample=f"n = {samples:,}",
        drawn=True,
        low=place(low),
        width=max(place(high) - place(low), 2),
        middle=place(drop),
        zero=place(0.0),
        edge=place(limit),
    )
