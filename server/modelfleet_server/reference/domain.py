"""An evaluation's life as a table."""

from enum import StrEnum

from modelfleet_server.kit.errors import ConflictError, InvalidError, NotFoundError
from modelfleet_server.kit.transitions import follow


class State(StrEnum):
    """Where an evaluation is; stored, so never rename a value."""

    ISSUED = "issued"
    GRADING = "grading"
    PASSED = "passed"
    MISSED = "missed"
    FAILED = "failed"
    LAPSED = "lapsed"


class Event(StrEnum):
    """What happens to an evaluation."""

    ANSWER = "answer"
    PASS = "pass"  # noqa: S105 - not a password
    MISS = "miss"
    FAIL = "fail"
    LAPSE = "lapse"
    ISSUE = "issue"


MOVES: dict[tuple[State, Event], State] = {
    (State.ISSUED, Event.ANSWER): State.GRADING,
    (State.ISSUED, Event.FAIL): State.FAILED,
    (State.ISSUED, Event.LAPSE): State.LAPSED,
    (State.GRADING, Event.PASS): State.PASSED,
    (State.GRADING, Event.MISS): State.MISSED,
    (State.GRADING, Event.FAIL): State.FAILED,
    (State.LAPSED, Event.ISSUE): State.ISSUED,
}

COUNTED = frozenset({State.ISSUED, State.GRADING, State.PASSED})
"""Evaluations that are, or may become, evidence for a candidate."""


class EvaluationStateError(ConflictError):
    """The evaluation is in no state for this."""

    code = "evaluation-state"


class EvaluationNotFoundError(NotFoundError):
    """There is no such evaluation of this device."""

    code = "no-evaluation"


class ResultError(InvalidError):
    """What a device says of an evaluation cannot be taken."""

    code = "evaluation-result"


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        EvaluationStateError: The pair is not in `MOVES`.
    """
    return follow(MOVES, state, event, what="an evaluation", error=EvaluationStateError)
