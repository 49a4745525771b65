"""Maintenance windows on a clock on the wall, daylight saving included."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_agent.settings.windows import Opening, find_opening, parse_window

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = 60_000


def at(text: str, fold: int = 0) -> int:
    local = datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)
    return round(local.timestamp() * 1000)


def look(text: str, now: str, fold: int = 0) -> Opening:
    windows = [parse_window(one) for one in text.split("; ")]
    return find_opening(windows, BERLIN, at(now, fold))


@pytest.mark.parametrize(
    ("text", "now", "opens", "since", "until"),
    [
        ("02:00-04:00", "23T02:00", True, "23T02:00", "23T04:00"),
        ("02:00-04:00", "23T04:00", False, "24T02:00", "24T04:00"),
        ("22:00-06:00", "23T01:00", True, "22T22:00", "23T06:00"),
        ("22:00-06:00", "23T23:00", True, "23T22:00", "24T06:00"),
        ("sat 00:00-24:00", "20T12:00", False, "21T00:00", "22T00:00"),  # a Friday
        ("fri-mon 22:00-06:00", "24T05:00", True, "23T22:00", "24T06:00"),
        ("tue 01:00-02:00", "17T02:00", False, "24T01:00", "24T02:00"),
        ("01:00-03:00; 02:00-05:00", "23T02:30", True, "23T01:00", "23T05:00"),
    ],
)
def test_a_window_opens_and_closes(
    text: str, now: str, opens: bool, since: str, until: str
) -> None:
    now, since, until = (f"2026-11-{one}" for one in (now, since, until))
    assert look(text, now) == Opening(open=opens, at=at(since), until=at(until))


def test_a_window_is_longer_in_the_night_when_clocks_go_back() -> None:
    night = look("02:00-04:00", "2026-10-25 03:30")
    assert night.open
    assert night.until - night.at == 3 * 60 * MINUTE
    assert look("02:00-04:00", "2026-10-25 02:30", fold=1).open


def test_a_window_that_the_spring_cuts_out_does_not_open_that_night() -> None:
    # 02:00 to 03:00 does not exist on 2026-03-29
    found = look("02:00-03:00", "2026-03-29 01:59")
    assert not found.open
    assert found.at == at("2026-03-30 02:00")


@given(
    st.integers(0, 23 * 60 + 59),
    st.integers(1, 24 * 60),
    st.sets(st.sampled_from(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]), min_size=1),
    st.integers(1_700_000_000_000, 1_900_000_000_000),
)
def test_it_is_open_exactly_between_its_times(
    start: int, end: int, days: set[str], now: int
) -> None:
    if start == end:
        return
    text = f"{','.join(sorted(days))} {start // 60:02}:{start % 60:02}"
    window = parse_window(f"{text}-{end // 60:02}:{end % 60:02}")
    found = find_opening([window], BERLIN, now)
    assert found.at < found.until
    assert found.open == (found.at <= now)
    assert found.until > now
    again = find_opening([window], BERLIN, found.at)
    assert again.open
