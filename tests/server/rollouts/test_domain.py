"""The life of a rollout, and how waves count."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.rollouts.domain import (
    ACTIVE,
    MOVES,
    Candidate,
    Event,
    MoveError,
    State,
    Wave,
    WaveKind,
    after,
    parse_wave,
    reach_of,
    write_wave,
)


@pytest.mark.parametrize(
    ("state", "event"), sorted(set(product(State, Event)) - set(MOVES))
)
def test_any_move_not_in_the_table_is_refused(state: State, event: Event) -> None:
    with pytest.raises(MoveError):
        after(state, event)


def test_every_state_that_holds_a_slot_can_be_left() -> None:
    for state in ACTIVE:
        assert any(
            held is state and MOVES[held, event] not in ACTIVE for held, event in MOVES
        )


def test_undone_is_the_end() -> None:
    assert not [event for state, event in MOVES if state is State.UNDONE]


@pytest.mark.parametrize("text", ["all", "canary", "25%", "3", "device:cam-1,cam-2"])
def test_a_wave_is_written_as_it_was_read(text: str) -> None:
    assert write_wave(parse_wave(text)) == text


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-1", "half", "device:", "1.5%"])
def test_a_wave_that_is_not_understood_names_what_is(text: str) -> None:
    with pytest.raises(InvalidError, match="canary"):
        parse_wave(text)


def members(count: int, profiles: int = 2) -> list[Candidate]:
    return [
        Candidate(f"cam-{n}", f"{n:032x}", f"profile-{n % profiles}", heard_ms=n)
        for n in range(count)
    ]


def test_a_canary_wave_takes_the_device_heard_last_of_each_profile() -> None:
    reach = reach_of(Wave(WaveKind.PROFILES, 1), [], members(6))
    assert set(reach.listed) == {f"{4:032x}", f"{5:032x}"}
    assert reach.count == 0


@given(st.integers(1, 60), st.integers(1, 100))
def test_a_share_is_rounded_up_and_counts_those_listed_before(
    count: int, share: int
) -> None:
    them = members(count)
    before = [them[0].enrolment]
    reach = reach_of(Wave(WaveKind.PERCENT, share), before, them)
    assert reach.count is not None
    assert reach.count + len(reach.listed) == max(-(-count * share // 100), 1)


def test_the_last_wave_admits_everyone() -> None:
    assert reach_of(Wave(WaveKind.ALL), ["a"], members(3)).count is None


def test_a_listed_device_that_is_no_member_is_named() -> None:
    with pytest.raises(InvalidError, match="cam-9"):
        reach_of(Wave(WaveKind.DEVICES, devices=("cam-9",)), [], members(3))
