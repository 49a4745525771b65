"""Server-sent events: what a page shows, again whenever it changed.

However many browsers look, a view is computed at most twice a second, and at most a fifth
of the time where that is slow. Nothing tells streams of changes: silence becomes `stale`
by the clock alone, and a poll sees that too.
"""

import asyncio
import json
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from typing import Protocol

from fastapi.sse import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from modelfleet_server.kit.errors import AppError

EVERY_S = 0.5
BEAT_S = 10.0
"""A view is sent this often even if nothing changed: how a page knows that it is live."""

LIFE_S = 600.0
"""A stream ends after this; the browser comes again and is asked who it is."""

MAX_VIEWS = 64
SHARE = 5


class View(Protocol):
    """A dataclass that says when it was made."""

    @property
    def at_ms(self) -> int:
        """Unix ms."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A view as JSON; `mark` is what it says apart from its time."""

    text: str
    mark: str
    good_until: float


@dataclass
class _Seat:
    lock: threading.Lock = field(default_factory=threading.Lock)
    shot: Shot | None = None


class Shots:
    """The newest shot of each view that somebody looks at. Safe for all threads.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seats: OrderedDict[str, _Seat] = OrderedDict()

    def take(self, key: str, make: Callable[[], View]) -> Shot:
        """Return the view `key`, made anew if the last one is too old."""
        with self._lock:
            seat = self._seats.setdefault(key, _Seat())
            self._seats.move_to_end(key)
            while len(self._seats) > MAX_VIEWS:
                self._seats.popitem(last=False)
        with seat.lock:
            began = self._clock()
            if seat.shot is None or seat.shot.good_until <= began:
                values = asdict(make())  # type: ignore[call-overload]
                took = self._clock() - began
                text = json.dumps(values, ensure_ascii=False)
                mark = json.dumps(values | {"at_ms": 0}, ensure_ascii=False)
                until = began + max(EVERY_S, SHARE * took)
                seat.shot = Shot(text, mark, until)
            return seat.shot


async def follow(take: Callable[[], Shot]) -> AsyncIterator[ServerSentEvent]:
    """Yield an event `view` at once, whenever it changed, and every `BEAT_S` seconds.

    Args:
        take: Returns the newest shot; called in a thread.
    """
    end = time.monotonic() + LIFE_S
    sent, next_beat = "", 0.0
    while time.monotonic() < end:
        try:
            shot = await run_in_threadpool(take)
        except AppError:
            return  # what was looked at is gone; the page says so when it is loaded again
        if shot.mark != sent or time.monotonic() >= next_beat:
            yield ServerSentEvent(raw_data=shot.text, event="view")
            sent, next_beat = shot.mark, time.monotonic() + BEAT_S
        await asyncio.sleep(EVERY_S)
