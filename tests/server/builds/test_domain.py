"""The life of a build."""

from itertools import product

import pytest

from modelfleet_server.builds.domain import MOVES, OPEN, Event, State, after
from modelfleet_server.builds.errors import MoveError


@pytest.mark.parametrize(
    ("state", "event"), sorted(set(product(State, Event)) - set(MOVES))
)
def test_any_move_not_in_the_table_is_refused(state: State, event: Event) -> None:
    with pytest.raises(MoveError):
        after(state, event)


@pytest.mark.parametrize("end", [State.DONE, State.FAILED])
def test_every_state_can_end(end: State) -> None:
    reaching = {end}
    while more := {s for (s, _), to in MOVES.items() if to in reaching} - reaching:
        reaching |= more
    assert reaching >= OPEN


def test_what_is_done_stays_done() -> None:
    assert not [event for state, event in MOVES if state is State.DONE]
