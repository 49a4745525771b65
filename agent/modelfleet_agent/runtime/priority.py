"""Who waits for whom on a busy processor: loading gives way, answering is let in at once.

Both are wishes: a kernel that does not know them, or a sandbox that forbids them, costs
some latency while a release is loaded and nothing else.
"""

import contextlib
import ctypes
import os
import platform
import struct
import threading

YIELD_NICE = 5
SLICE_NS = 200_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274, "armv7l": 380}
_SIZE = 56  # of `struct sched_attr`


def give_way() -> None:
    """Let the calling thread, for good, take a third of what an answering one takes.

    No less: on a processor that answers without a pause a load must end all the same, and
    it holds the interpreter now and then. Threads that this one starts inherit it.
    """
    own = threading.get_native_id()
    with contextlib.suppress(OSError):
        nice = min(os.getpriority(os.PRIO_PROCESS, own) + YIELD_NICE, 19)
        os.setpriority(os.PRIO_PROCESS, own, nice)


def answer_promptly() -> None:
    """Ask for short turns of the processor for the calling thread.

    Linux 6.12 and later lets a thread of short turns in when it wakes, where others would
    first end theirs of about 3 ms. Its share stays as it is.
    """
    number = _SCHED_SETATTR.get(platform.machine())
    if number is None:
        return
    own = threading.get_native_id()
    nice = os.getpriority(os.PRIO_PROCESS, own)
    # size, policy SCHED_OTHER, flags, nice, priority, runtime, deadline, period, clamps
    attributes = struct.pack("=IIQiIQQQII", _SIZE, 0, 0, nice, 0, SLICE_NS, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # refused: as it was
