"""Where files are asked for: mirrors in their order, then the fleet's server.

A mirror is trusted with nothing: the signed digest decides. One whose bytes are wrong is
left for `LEFT_S` and told of; one that cannot be reached is asked again the next time.
"""

import threading
from collections.abc import Sequence

from modelfleet_agent.clock import monotonic_s

LEFT_S = 3600.0


class Mirrors:
    """The mirrors of one device. Safe in threads."""

    def __init__(self, bases: Sequence[str] = ()) -> None:
        """Take base addresses, the preferred one first."""
        self._bases = tuple(bases)
        self._left: dict[str, float] = {}
        self._lock = threading.Lock()

    def usable(self) -> list[str]:
        """Return the mirrors that did not lie lately."""
        now = monotonic_s()
        with self._lock:
            return [one for one in self._bases if self._left.get(one, now) <= now]

    def leave(self, base: str) -> None:
        """Ask a mirror no more for an hour: what it gave is not what was signed."""
        with self._lock:
            self._left[base] = monotonic_s() + LEFT_S
