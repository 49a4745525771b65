"""A job's life as a table, whose turn it is, and which executors are dead. Pure."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from modelfleet_server.jobs.errors import MoveError
from modelfleet_server.kit.transitions import follow

MAX_LOSSES = 3
"""A job that was lost this often, because it takes its process with it, has failed."""
SILENT_S = 30.0
"""An executor that shows no sign of life for so long is dead."""


class State(StrEnum):
    """Where a job is; stored, so never rename a value."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(StrEnum):
    """What happens to a job. `CANCEL` and `REPEAT` are a person's."""

    START = "start"
    FINISH = "finish"
    FAIL = "fail"
    LOSE = "lose"
    CANCEL = "cancel"
    REPEAT = "repeat"


MOVES: dict[tuple[State, Event], State] = {
    (State.QUEUED, Event.START): State.RUNNING,
    (State.QUEUED, Event.FAIL): State.FAILED,
    (State.QUEUED, Event.CANCEL): State.CANCELLED,
    (State.RUNNING, Event.FINISH): State.DONE,
    (State.RUNNING, Event.FAIL): State.FAILED,
    (State.RUNNING, Event.LOSE): State.QUEUED,
    (State.RUNNING, Event.CANCEL): State.CANCELLED,
    (State.DONE, Event.REPEAT): State.QUEUED,
    (State.FAILED, Event.REPEAT): State.QUEUED,
    (State.CANCELLED, Event.REPEAT): State.QUEUED,
}
OPEN = frozenset({State.QUEUED, State.RUNNING})
ENDED = frozenset(State) - OPEN


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        MoveError: The pair is not in `MOVES`.
    """
    return follow(MOVES, state, event, what="a job", error=MoveError)


class Progress(NamedTuple):
    """How far a job is: the step that runs now, and steps done of all."""

    step: str
    done: int
    of: int


def next_turn(started: int, in_lane: int) -> int:
    """Return the turn of a new job: jobs are taken by turn, then by age.

    Start-time fair queueing with jobs of equal cost (Goyal, Vin and Cheng, 1996): each lane
    gets every turn once, and a lane that was idle begins at the present turn. So a job
    waits for at most one job of each other lane, however many those have.

    Args:
        started: The highest turn of a job that was ever started, 0 for none.
        in_lane: The highest turn of an open job of the same lane, 0 for none.
    """
    return max(started, in_lane) + 1


class Sign(NamedTuple):
    """The sign of life of an executor, as a reaper sees it.

    Attributes:
        name: The executor's id.
        beat: A number that it raises as long as it lives.
        left: It said that it ends.
        locked: Whether its lock is held: None where this machine cannot tell.
    """

    name: str
    beat: int
    left: bool
    locked: bool | None


class Watch:
    """Says who is dead, by the watcher's own clock: no two clocks are compared.

    An executor of this machine is dead as soon as its lock is free; one elsewhere, or one
    that hangs, when its beat has not changed for `SILENT_S`.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def find_dead(self, signs: Iterable[Sign], now_s: float) -> list[str]:
        """Return the names of the dead.

        Args:
            signs: Of all executors that are known; others are forgotten.
            now_s: Seconds by a clock that never jumps.
        """
        before, self._seen = self._seen, {}
        dead = []
        for sign in signs:
            beat, since = before.get(sign.name, (sign.beat, now_s))
            if beat != sign.beat:
                beat, since = sign.beat, now_s
            self._seen[sign.name] = (beat, since)
            if sign.left or sign.locked is False or now_s - since >= SILENT_S:
                dead.append(sign.name)
        return dead
