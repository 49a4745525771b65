"""State machines are tables; this is the one way to look up what follows."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from modelfleet_server.kit.errors import ConflictError

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


def follow(
    moves: Mapping[tuple[State, Event], State],
    state: State,
    event: Event,
    *,
    what: str,
    error: type[ConflictError],
) -> State:
    """Return the state that follows.

    Args:
        moves: The table.
        state: Where something is.
        event: What happens to it.
        what: It, in words with an article, for the message.
        error: Raised where the pair is not in the table; its hint says what can happen.
    """
    try:
        return moves[state, event]
    except KeyError:
        can = sorted(move for one, move in moves if one is state)
        raise error(
            f"{what} that is {state} cannot {event}",
            f"It can: {', '.join(can)}." if can else "It has ended.",
            state=str(state),
            event=str(event),
        ) from None
