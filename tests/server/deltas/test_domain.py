"""Ranking, budget and sweep: what is made, what is not, and what goes."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_server.deltas.domain import (
    MOVES,
    OPEN,
    Budget,
    Candidate,
    Event,
    Held,
    MoveError,
    Needs,
    State,
    after,
    choose,
    find_doomed,
    rank,
    split,
)

SIZES = st.integers(0, 10_000_000)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        new=st.sampled_from("abc"),
        old=st.integers(0, 10_000).map(str),
        devices=st.integers(1, 1000),
        size=SIZES,
        whole=SIZES,
        estimate=SIZES,
    ),
    unique_by=lambda one: (one.new, one.old),
    max_size=30,
)
BUDGETS = st.builds(
    Budget,
    deltas=st.integers(0, 10),
    length=st.integers(0, 30_000_000),
    cpu_ms=st.integers(0, 3000),
)


@pytest.mark.parametrize(
    ("state", "event"), sorted(set(product(State, Event)) - set(MOVES))
)
def test_any_move_not_in_the_table_is_refused(state: State, event: Event) -> None:
    with pytest.raises(MoveError):
        after(state, event)


def test_what_was_dropped_is_never_planned_again() -> None:
    assert State.DROPPED not in OPEN
    assert not [event for state, event in MOVES if state is State.DROPPED]


@given(CANDIDATES, BUDGETS)
def test_a_plan_stays_within_its_budget(found: list[Candidate], budget: Budget) -> None:
    made = choose(found, budget).make
    assert len(made) <= budget.deltas
    assert sum(one.estimate for one in made) <= budget.length
    assert sum(one.cpu_ms for one in made) <= budget.cpu_ms


@given(CANDIDATES, BUDGETS)
def test_each_candidate_is_made_dropped_or_postponed(
    found: list[Candidate], budget: Budget
) -> None:
    choice = choose(found, budget)
    assert sorted(rank([*choice.make, *choice.drop, *choice.postpone]), key=hash) == sorted(
        found, key=hash
    )
    assert set(choice.drop) == {one for one in found if one.estimate >= one.whole}


@given(CANDIDATES, BUDGETS)
def test_nothing_is_postponed_for_what_saves_less(
    found: list[Candidate], budget: Budget
) -> None:
    """Whoever waits would not have fitted beside those that save at least as much."""
    choice = choose(found, budget)
    order = rank(found)
    for one in choice.postpone:
        left = budget
        for before in order[: order.index(one)]:
            if before in choice.make:
                left = left.less(before)
        assert left.less(one).is_spent
    assert list(choice.make) == [one for one in order if one in choice.make]


@given(CANDIDATES, BUDGETS)
def test_a_plan_does_not_depend_on_the_order_of_what_it_is_given(
    found: list[Candidate], budget: Budget
) -> None:
    assert choose(found, budget) == choose(reversed(found), budget)


@given(CANDIDATES, st.integers(1, 5), st.integers(1, 20_000_000))
def test_batches_hold_everything_in_order_and_are_bounded(
    found: list[Candidate], count: int, length: int
) -> None:
    batches = list(split(found, count=count, length=length))
    assert [one for batch in batches for one in batch] == found
    for batch in batches:
        assert 0 < len(batch) <= count
        assert len(batch) == 1 or sum(one.size for one in batch) <= length


NAMES = st.sets(st.sampled_from("abcdef"))


@given(
    st.lists(
        st.builds(Held, st.sampled_from("abc"), st.sampled_from("def"), st.integers(0, 9))
    ),
    NAMES,
    NAMES,
    st.integers(0, 9),
)
def test_only_what_nobody_could_use_for_long_enough_is_swept(
    held: list[Held], running: set[str], wanted: set[str], keep: int
) -> None:
    doomed = find_doomed(held, Needs(running, wanted), now_ms=10, keep_ms=keep)
    for one in held:
        useful = one.old in running and one.new in wanted
        assert (one in doomed) == (not useful and 10 - one.needed_ms > keep)
