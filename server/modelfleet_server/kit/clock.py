"""The server's only reader of the wall clock."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns Unix milliseconds."""


def now_ms() -> int:
    """Return the time in integer Unix milliseconds."""
    return time.time_ns() // 1_000_000
