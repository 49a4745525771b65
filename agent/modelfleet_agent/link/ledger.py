"""The byte budget: what was fetched in this day and in this month, durably.

What is about to be received is noted before it comes, in leases: a power cut may make a
device believe that it fetched up to a lease more than it did, never less.
"""

import threading
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import NamedTuple

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.clock import Clock
from modelfleet_agent.journal import Pages, read_value

FOLDER, NAME = "link", "ledger"
PAGE = 4096
LEASE = 1 << 20
SMALL_LEASE = 1 << 16  # of what is no file: a device that restarts often loses no more
# A clock that is wrong after each boot must not buy a new budget by going back and forth.
REMEMBERED = 8


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes by period, the one that was used last at the end.

    Attributes:
        days: By day such as `2026-11-23`.
        months: By month such as `2026-11`.
    """

    days: dict[str, int] = {}
    months: dict[str, int] = {}

    def add(self, day: str, count: int) -> "Book":
        """Return the book with `count` bytes more on `day`."""
        month = day[: len("2026-11")]
        return Book(
            days=_add(self.days, day, count), months=_add(self.months, month, count)
        )


class Left(NamedTuple):
    """What may still come.

    Attributes:
        bytes: So many; None where there is no limit.
        until: When there is more, Unix ms.
        limit: The budget that is nearest to its end, in words.
    """

    bytes: int | None
    until: int = 0
    limit: str = ""


class Ledger:
    """One device's budget. Safe in threads."""

    def __init__(
        self,
        directory: Path,
        *,
        per_day: int | None,
        per_month: int | None,
        zone: tzinfo,
        clock: Clock,
    ) -> None:
        """Read what was spent; nothing is written before something is.

        Args:
            directory: Of the agent.
            per_day: Bytes; None: no limit.
            per_month: The same.
            zone: Whose midnight ends a day.
            clock: Unix ms.
        """
        self._limits = {"day": per_day, "month": per_month}
        self._zone = zone
        self._clock = clock
        self._pages = Pages(fsio.private_dir(directory / FOLDER) / NAME, size=PAGE)
        self._book = read_value(self._pages, Book, Book())
        self._noted = self._book
        self._lock = threading.Lock()

    def left(self) -> Left:
        """Return what may still come in this day and in this month."""
        with self._lock:
            today = self._today()
            return min(self._lefts(today), key=lambda one: (one.bytes, -one.until))

    def spend(self, count: int, *, lease: int = LEASE) -> None:
        """Count bytes that came; durable before more than `lease` of them was not.

        Raises:
            RetryableError: The disk is in the way.
        """
        with self._lock:
            day = self._today().isoformat()
            self._book = self._book.add(day, count)
            if self._book.days[day] > self._noted.days.get(day, 0):
                self._note(self._book.add(day, lease))

    def settle(self) -> None:
        """Note exactly what came: a transfer is over. Raises as `spend`."""
        with self._lock:
            if self._noted != self._book:
                self._note(self._book)

    def _note(self, book: Book) -> None:
        self._pages.write(msgspec.json.encode(book))
        self._noted = book

    def _today(self) -> date:
        return (
            datetime.fromtimestamp(self._clock() / 1000, UTC).astimezone(self._zone).date()
        )

    def _lefts(self, today: date) -> list[Left]:
        day = today.isoformat()
        spent = {
            "day": self._book.days.get(day, 0),
            "month": self._book.months.get(day[: len("2026-11")], 0),
        }
        tomorrow = today + timedelta(days=1)
        next_month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
        ends = {"day": self._midnight(tomorrow), "month": self._midnight(next_month)}
        return [
            Left(max(limit - spent[name], 0), ends[name], f"{limit >> 20} MiB a {name}")
            for name, limit in self._limits.items()
            if limit is not None
        ]

    def _midnight(self, day: date) -> int:
        local = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        return round(local.timestamp() * 1000)


def _add(periods: Mapping[str, int], name: str, count: int) -> dict[str, int]:
    rest = {one: spent for one, spent in periods.items() if one != name}
    rest[name] = periods.get(name, 0) + count
    return dict(list(rest.items())[-REMEMBERED:])
