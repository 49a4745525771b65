"""A job's life, whose turn it is, who is dead: pure."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_server.jobs.domain import (
    ENDED,
    MOVES,
    OPEN,
    SILENT_S,
    Event,
    Sign,
    State,
    Watch,
    after,
    next_turn,
)
from modelfleet_server.jobs.errors import MoveError


@pytest.mark.parametrize(
    ("state", "event"), sorted(set(product(State, Event)) - set(MOVES))
)
def test_any_move_not_in_the_table_is_refused(state: State, event: Event) -> None:
    with pytest.raises(MoveError):
        after(state, event)


def test_from_every_state_an_end_can_be_reached() -> None:
    reaches = set(ENDED)
    while more := {s for (s, _), then in MOVES.items() if then in reaches} - reaches:
        reaches |= more
    assert reaches == set(State)
    assert set(State) - ENDED == OPEN


def take(lanes: list[str]) -> list[str]:
    """Ask for a job per lane, then take them all; return the lanes in the order taken."""
    turns: list[tuple[int, int, str]] = []
    for age, lane in enumerate(lanes):
        in_lane = max((turn for turn, _, one in turns if one == lane), default=0)
        turns.append((next_turn(0, in_lane), age, lane))
    return [lane for _, _, lane in sorted(turns)]


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_no_lane_waits_for_more_than_one_job_of_each_other(lanes: list[str]) -> None:
    taken = take(lanes)
    for lane in set(lanes):
        places = [place for place, one in enumerate(taken) if one == lane]
        for number, (before, now) in enumerate(zip([-1, *places], places, strict=False)):
            between = taken[before + 1 : now]
            most = (
                2 if number else 1
            )  # one of its turn behind it, one of the next before it
            assert all(between.count(one) <= most for one in "abc")


def test_a_lane_that_was_idle_gets_no_credit_for_it() -> None:
    assert next_turn(started=40, in_lane=0) == 41
    assert next_turn(started=40, in_lane=44) == 45


def sign(beat: int, *, left: bool = False, locked: bool | None = True) -> list[Sign]:
    return [Sign("a", beat, left, locked)]


def test_silence_is_death_and_a_sign_of_life_ends_it() -> None:
    watch = Watch()
    assert watch.find_dead(sign(1), 0) == []
    assert watch.find_dead(sign(1), SILENT_S - 1) == []
    assert watch.find_dead(sign(1), SILENT_S) == ["a"]
    assert watch.find_dead(sign(2), SILENT_S + 1) == []
    assert watch.find_dead(sign(2), SILENT_S + 2) == []


@pytest.mark.parametrize("far_ahead", [0, 10**15])
def test_the_clocks_of_two_machines_are_never_compared(far_ahead: int) -> None:
    watch = Watch()
    assert watch.find_dead(sign(far_ahead), 0) == []
    assert watch.find_dead(sign(far_ahead - 1), SILENT_S + 5) == []


def test_a_free_lock_and_a_farewell_are_death_at_once() -> None:
    assert Watch().find_dead(sign(1, locked=False), 0) == ["a"]
    assert Watch().find_dead(sign(1, left=True), 0) == ["a"]
    assert Watch().find_dead(sign(1, locked=None), 0) == []
