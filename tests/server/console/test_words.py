"""How numbers and states read; widths of the bar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_server.compliance.domain import Compliance
from modelfleet_server.console import words
from modelfleet_server.console.fleet import WIDTH, Ask, _widths
from modelfleet_server.rollouts.domain import State
from modelfleet_server.rollouts.gate import Outcome


def test_every_state_has_a_word_and_a_look() -> None:
    assert set(words.COMPLIANCE) == set(Compliance)
    assert set(words.ROLLOUT) == set(State)
    assert set(words.GATE) == set(Outcome)


def test_no_two_states_of_one_kind_differ_by_colour_alone() -> None:
    for looks in (words.COMPLIANCE, words.ROLLOUT, words.GATE):
        shapes = [look.shape for look in looks.values()]
        assert len(set(shapes)) == len(shapes)


@pytest.mark.parametrize(
    ("passed", "text"),
    [(0, "0 s"), (59_999, "59 s"), (60_000, "1 min"), (7_200_000, "2 h"), (-5, "0 s"),
     (3 * 86_400_000, "3 d")],
)  # fmt: skip
def test_an_age_has_one_unit(passed: int, text: str) -> None:
    assert words.age(1_000_000_000_000, 1_000_000_000_000 + passed) == text


def test_what_never_happened_has_no_age() -> None:
    assert words.age(0, 5) == "never"
    assert words.iso(0) == ""


def test_a_moment_is_utc_to_the_second() -> None:
    assert words.iso(1_790_000_000_999) == "2026-09-21T14:13:20Z"
    assert words.clock(1_790_000_000_999) == "14:13:20 UTC"


@given(st.lists(st.integers(0, 100_000), min_size=8, max_size=8))
def test_the_bar_is_full_and_what_is_rare_is_still_seen(numbers: list[int]) -> None:
    counts = dict(zip(Compliance, numbers, strict=True))
    widths = _widths(counts, sum(numbers))
    assert sum(widths.values()) == (WIDTH if sum(numbers) else 0)
    assert all((widths[state] > 0) == (counts[state] > 0) for state in Compliance)


def test_the_address_is_the_view() -> None:
    ask = Ask("plant-b", Compliance.FAILED, "cam-9")
    assert ask.href() == "/?state=failed&group=plant-b"
    assert ask.href(state="") == "/?group=plant-b"
    assert Ask().href() == "/"
