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


def boot_ms() -> int:
    """Return milliseconds since the device booted; they rise in standby, too."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # Linux has it
    return time.clock_gettime_ns(clock) // 1_000_000


def monotonic_us() -> int:
    """Return microseconds that only rise, for latencies."""
    return time.perf_counter_ns() // 1000
