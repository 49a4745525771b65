"""Waits: they grow, they end, and they are spread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_agent.update.policy import (
    METADATA,
    QUARANTINE,
    RETRY,
    Backoff,
    Metadata,
    metadata_due,
    refresh_at,
)

HOUR = 3_600_000
DAY = 24 * HOUR
BACKOFFS = [RETRY, QUARANTINE, METADATA]


@pytest.mark.parametrize("backoff", BACKOFFS)
@given(failures=st.integers(1, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_a_wait_never_exceeds_its_ceiling(
    backoff: Backoff, failures: int, draw: float
) -> None:
    assert 0 <= backoff.wait_ms(failures, lambda: draw) <= backoff.most_ms


@pytest.mark.parametrize("backoff", BACKOFFS)
def test_the_ceiling_doubles_until_the_most(backoff: Backoff) -> None:
    ceilings = [backoff.wait_ms(number, lambda: 0.0) for number in range(1, 40)]
    assert ceilings[0] == backoff.first_ms
    assert ceilings[1] == 2 * backoff.first_ms
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] == backoff.most_ms


@given(draw=st.floats(0, 1, exclude_max=True))
def test_a_quarantine_is_never_nothing(draw: float) -> None:
    assert QUARANTINE.wait_ms(1, lambda: draw) >= QUARANTINE.first_ms // 2


def test_metadata_is_refreshed_at_two_thirds_of_its_life() -> None:
    known = Metadata(refreshed=HOUR, expires=HOUR + 3 * DAY)
    assert refresh_at(known) == HOUR + 2 * DAY
    due = [
        metadata_due(known, needed=False, wait_ms=0, now=HOUR + 2 * DAY + offset)
        for offset in (-1, 0)
    ]
    assert due == [False, True]


def test_a_need_is_answered_at_once() -> None:
    known = Metadata(refreshed=HOUR, expires=HOUR + DAY)
    assert metadata_due(known, needed=True, wait_ms=500, now=HOUR + 1)


def test_after_a_failure_even_a_need_waits_and_the_wait_ends() -> None:
    known = Metadata(refreshed=0, expires=0, failures=2, tried=HOUR)
    assert not metadata_due(known, needed=True, wait_ms=500, now=HOUR + 499)
    assert metadata_due(known, needed=True, wait_ms=500, now=HOUR + 500)


def test_a_clock_that_was_set_back_does_not_silence_the_device() -> None:
    known = Metadata(refreshed=0, expires=0, failures=1, tried=10 * DAY)
    assert metadata_due(known, needed=True, wait_ms=500, now=DAY)
