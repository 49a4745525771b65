"""The only place of the agent that reads a clock."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns Unix milliseconds."""


def now_ms() -> int:
    """Return the wall clock in Unix milliseconds; it may jump."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Return seconds that only rise, for deadlines and durations."""
    return time.monotonic()


def monotonic_us() -> int:
    """Return microseconds that only rise, for latencies."""
    return time.perf_counter_ns() // 1000
