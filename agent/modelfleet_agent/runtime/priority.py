"""Who waits for whom on a busy processor: loading gives way, answering is let in at once.

All are wishes: a kernel that does not know them, or a sandbox that forbids them, costs
some latency while a release is loaded and nothing else.
"""

import contextlib
import ctypes
import os
import platform
import struct
import threading
from collections.abc import Iterator

YIELD_NICE = 5
SLICE_NS = 200_000
FIRST_S = 1.0
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "armv7l": 380}
_SIZE = 56  # of `struct sched_attr`
_RESET_ON_FORK = 1  # what a thread starts does not inherit; only root takes it back
_FIRST = os.SCHED_RR | os.SCHED_RESET_ON_FORK
_LOWEST = os.sched_param(1)


def give_way() -> None:
    """Let the calling thread, for good, take a third of what an answering one takes.

    No less: on a processor that answers without a pause a load must end all the same, and
    it holds the interpreter now and then. Threads that this one starts inherit it.
    """
    own = threading.get_native_id()
    with contextlib.suppress(OSError):
        nice = min(os.getpriority(os.PRIO_PROCESS, own) + YIELD_NICE, 19)
        os.setpriority(os.PRIO_PROCESS, own, nice)


class Precedence:
    """The threads that answer, and whether they come before all else at present.

    Linux moves a real-time thread that has to wait to a free processor at once; another
    waits for the next tick, up to 4 ms. Real-time threads come before everything else on
    the device, though, so they are it only while a release is loaded, for `at_most_s` at
    most, and only where the process may (`RLIMIT_RTPRIO`, or root): a model that never
    ends must not take the device.
    """

    def __init__(self, at_most_s: float = FIRST_S) -> None:
        """No thread answers yet."""
        self._at_most_s = at_most_s
        self._threads: set[int] = set()
        self._loads = 0  # of those whose time is not over
        self._lock = threading.Lock()

    def join(self) -> None:
        """Count the calling thread among those that answer, until the process ends."""
        own = threading.get_native_id()
        with self._lock:
            self._threads.add(own)
            _come_promptly(own)
            if self._loads:
                _come_first(own)

    @contextlib.contextmanager
    def while_loading(self) -> Iterator[None]:
        """Let answers come first in this block, which loads; blocks may overlap."""
        over = threading.Event()
        timer = threading.Timer(self._at_most_s, self._end, [over])
        timer.daemon = True
        self._begin()
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._end(over)

    def _begin(self) -> None:
        with self._lock:
            self._loads += 1
            if self._loads == 1:
                for thread in self._threads:
                    _come_first(thread)

    def _end(self, over: threading.Event) -> None:
        with self._lock:
            if over.is_set():
                return
            over.set()
            self._loads -= 1
            if not self._loads:
                for thread in self._threads:
                    _come_promptly(thread)


def _come_first(thread: int) -> None:
    with contextlib.suppress(OSError):  # not permitted, or the thread has ended
        os.sched_setscheduler(thread, _FIRST, _LOWEST)


def _come_promptly(thread: int) -> None:
    """Give `thread` its fair share in short turns.

    Linux 6.12 and later lets a thread of short turns in when it wakes, where others would
    first end theirs of about 3 ms.
    """
    with contextlib.suppress(OSError):
        if not _take_short_turns(thread):
            fair = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(thread, fair, os.sched_param(0))


def _take_short_turns(thread: int) -> bool:
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, thread)
    # size, policy SCHED_OTHER, flags, nice, priority, runtime, deadline, period, clamps
    turns = (_SIZE, 0, _RESET_ON_FORK, nice, 0, SLICE_NS, 0, 0, 0, 0)
    attributes = struct.pack("=IIQiIQQQII", *turns)
    return bool(ctypes.CDLL(None).syscall(number, thread, attributes, 0) == 0)
