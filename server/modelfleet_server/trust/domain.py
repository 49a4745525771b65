"""A proposal's life, and the words of the trust slice; pure."""

from enum import StrEnum
from typing import NamedTuple

from modelfleet_server.kit.errors import ConflictError


class Kind(StrEnum):
    """What a proposal changes."""

    RELEASE = "release"
    REVOCATION = "revocation"
    STOP = "stop"
    RENEWAL = "renewal"
    KEYS = "keys"
    PARDON = "pardon"
    FLOOR = "floor"


class RoleSignature(NamedTuple):
    """One key's signature over a role's next metadata, in hexadecimal digits."""

    role: str
    key_id: str
    signature: str


class Finding(NamedTuple):
    """What building a variant again showed.

    Attributes:
        word: `rebuilt`, `audited`, or "" where neither is true.
        reasons: What differs, in words.
    """

    word: str
    reasons: tuple[str, ...]


class State(StrEnum):
    """Where a proposal is."""

    OPEN = "open"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


class Event(StrEnum):
    """What happens to a proposal."""

    COMPLETE = "complete"
    WITHDRAW = "withdraw"


MOVES: dict[tuple[State, Event], State] = {
    (State.OPEN, Event.COMPLETE): State.PUBLISHED,
    (State.OPEN, Event.WITHDRAW): State.WITHDRAWN,
}


class ProposalClosedError(ConflictError):
    """The proposal is published or withdrawn: nothing about it changes any more."""

    code = "proposal-closed"


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        ProposalClosedError: The pair is not in `MOVES`.
    """
    try:
        return MOVES[state, event]
    except KeyError:
        raise ProposalClosedError(
            f"the proposal is {state} already",
            "Look at it with: modelfleet proposal show.",
            state=state,
        ) from None
