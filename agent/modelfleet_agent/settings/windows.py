"""Maintenance windows: `02:00-04:00`, `mon-fri 22:00-06:00`, `sat,sun 00:00-24:00`.

Pure: the zone and the time are arguments. Times are those of a clock on the wall: a window
that daylight saving cuts out is shorter that night.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60
_HOUR_MINUTES = 60
_WEEK = 7
_TEXT = re.compile(
    r"(?:([a-z]{3}(?:[-,][a-z]{3})*) )?(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Window:
    """Part of a day, on some days of the week.

    Attributes:
        text: As it was written.
        days: Days of the week on which it opens, 0 is Monday.
        start: Minutes after midnight.
        end: The same; at or before `start` it ends on the next day.
    """

    text: str
    days: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether one of the windows is open.

    Attributes:
        open: One is.
        at: Unix ms: since when it is open, or when the next one opens.
        until: When it closes, Unix ms.
    """

    open: bool
    at: int
    until: int


def parse_window(text: str) -> Window:
    """Return the window that `text` says.

    Raises:
        ValueError: It is none; the message says why.
    """
    found = _TEXT.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError("write it as 02:00-04:00 or mon-fri 22:00-06:00")
    days, *numbers = found.groups()
    start_h, start_m, end_h, end_m = map(int, numbers)
    start, end = start_h * _HOUR_MINUTES + start_m, end_h * _HOUR_MINUTES + end_m
    wrong = max(start_m, end_m) >= _HOUR_MINUTES
    if wrong or start >= DAY_MINUTES or end > DAY_MINUTES:
        raise ValueError("a time of day is between 00:00 and 24:00")
    if start == end:
        raise ValueError("it is empty; a whole day is 00:00-24:00")
    return Window(text.strip(), frozenset(_days(days or "mon-sun")), start, end)


def find_opening(windows: Sequence[Window], zone: tzinfo, now_ms: int) -> Opening:
    """Return the opening that holds at `now_ms`, otherwise the next one.

    Args:
        windows: At least one.
        zone: Where the device stands.
        now_ms: Unix ms.
    """
    today = datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(zone).date()
    openings = sorted(_openings(windows, zone, today))
    held = [one for one in openings if one[0] <= now_ms < one[1]]
    if held:
        until = max(end for _, end in held)
        return Opening(open=True, at=min(held)[0], until=until)
    start, end = next(one for one in openings if one[0] > now_ms)
    return Opening(open=False, at=start, until=end)


def _openings(
    windows: Sequence[Window], zone: tzinfo, today: date
) -> Iterator[tuple[int, int]]:
    for offset in range(-1, _WEEK + 2):
        day = today + timedelta(days=offset)
        for window in windows:
            if day.weekday() in window.days:
                over = DAY_MINUTES if window.end <= window.start else 0
                start = _moment(day, window.start, zone)
                end = _moment(day, window.end + over, zone)
                if start < end:
                    yield start, end


def _moment(day: date, minutes: int, zone: tzinfo) -> int:
    days, rest = divmod(minutes, DAY_MINUTES)
    that = day + timedelta(days=days)
    hour, minute = divmod(rest, _HOUR_MINUTES)
    local = datetime(that.year, that.month, that.day, hour, minute, tzinfo=zone)
    return round(local.timestamp() * 1000)


def _days(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            start, end = DAYS.index(first), DAYS.index(last or first)
        except ValueError:
            raise ValueError(
                f"{part!r} names no days; days are {', '.join(DAYS)}"
            ) from None
        yield from (
            one % _WEEK for one in range(start, end + (_WEEK if end < start else 0) + 1)
        )
