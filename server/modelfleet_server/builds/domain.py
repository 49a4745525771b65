"""A build's life as a table."""

from enum import StrEnum

from modelfleet_server.builds.errors import MoveError
from modelfleet_server.kit.transitions import follow


class State(StrEnum):
    """Where a build is; stored, so never rename a value. Whether it runs, its job knows.

    One that is awaiting has made its variant, and reference devices are to prove it.
    """

    QUEUED = "queued"
    AWAITING = "awaiting"
    DONE = "done"
    FAILED = "failed"


class Event(StrEnum):
    """What happens to a build. Only `RETRY` is a person's."""

    MAKE = "make"
    FINISH = "finish"
    FAIL = "fail"
    RETRY = "retry"


MOVES: dict[tuple[State, Event], State] = {
    (State.QUEUED, Event.MAKE): State.AWAITING,
    (State.AWAITING, Event.FINISH): State.DONE,
    (State.AWAITING, Event.FAIL): State.FAILED,
    (State.QUEUED, Event.FINISH): State.DONE,
    (State.QUEUED, Event.FAIL): State.FAILED,
    (State.FAILED, Event.RETRY): State.QUEUED,
}


OPEN = frozenset({State.QUEUED, State.AWAITING})
"""What becomes of these is not known yet."""


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        MoveError: The pair is not in `MOVES`.
    """
    return follow(MOVES, state, event, what="a build", error=MoveError)
