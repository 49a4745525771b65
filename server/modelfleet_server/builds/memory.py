"""How much memory something takes: the peak of this process above what it held before.

Interpreter and libraries are loaded before and not counted. Linux only, as are builds.
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""Sets the peak of resident memory back to what is resident now (proc(5))."""


def measure_mb(do: Callable[[], T]) -> tuple[T, float]:
    """Return what `do` returns, and the memory that it took at most, MiB.

    Pages of files that it maps count as far as they are read. Where the kernel cannot set
    the peak back, what it holds at its end counts.
    """
    # memory that is free and still held would be used again, and not be seen
    ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text(_RESET_PEAK)
        field = "VmHWM"
    except OSError:
        field = "VmRSS"
    before = _kib("VmRSS")
    result = do()
    return result, max(0, _kib(field) - before) / 1024


def _kib(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    assert found  # noqa: S101 - Linux tells both of every process
    return int(found[1])
