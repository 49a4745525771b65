"""The trusted clock: what time it is, as far as somebody signed it.

A device starts without a confirmed time, and installs nothing new before it has one. A time
token confirms it for this start, and the monotonic clock carries it on: the wall clock may
say 1970 or 2099, or be set while the agent runs. Within a start it never goes back while
the keys that told it are still in the role; nothing of it is written to disk, so that a
stolen key can poison it until the next start at most. How long the device ran is: the
floor of the clock rises with it, so that such a key cannot stop it either.
"""

import threading
from collections.abc import Collection
from dataclasses import dataclass

from modelfleet_agent.clock import Clock, boot_ms, now_ms
from modelfleet_manifests.timetoken import LIFE_MS

TOLD_MS = 10 * 60 * 1000
"""Running time is told in pieces of at least so much: each is written to flash."""


@dataclass(frozen=True, slots=True)
class Told:
    """A time that was verified.

    Attributes:
        time: Unix ms.
        at: When the device asked, in ms of a clock that only rises.
        keys: Public keys of the role that told it.
    """

    time: int
    at: int
    keys: frozenset[str]


class TrustedClock:
    """Tells the time; safe to use from several threads."""

    def __init__(self, wall: Clock = now_ms, rising: Clock = boot_ms) -> None:
        """Begin unconfirmed.

        Args:
            wall: Unix ms; asked only while nothing is confirmed.
            rising: Ms that only rise, also in standby.
        """
        self._wall = wall
        self._rising = rising
        self._told: Told | None = None
        self._counted = rising()
        self._lock = threading.Lock()

    def confirm(self, told: Told) -> None:
        """Go by another token; only other keys set the clock back."""
        with self._lock:
            held = self._told
            if held is not None and held.keys <= told.keys:
                least = held.time + told.at - held.at
                told = Told(max(told.time, least), told.at, told.keys)
            self._told = told

    def forget(self, keys: Collection[str]) -> None:
        """Let go of a time that was told by keys which are not in the role any more."""
        with self._lock:
            if self._told is not None and not self._told.keys <= set(keys):
                self._told = None

    def take_run(self) -> int:
        """Return the ms that passed since they were taken last; 0 before ten minutes."""
        with self._lock:
            ran = self._rising() - self._counted
            if ran < TOLD_MS:
                return 0
            self._counted += ran
            return ran

    @property
    def confirmed(self) -> bool:
        """A token of this start is at most 14 days old."""
        told = self._told
        return told is not None and self._rising() - told.at <= LIFE_MS

    def now(self, floor: int = 0) -> int:
        """Return the time, Unix ms; at least `floor`."""
        told = self._told
        if told is None:
            return max(self._wall(), floor)
        return max(told.time + self._rising() - told.at, floor)
