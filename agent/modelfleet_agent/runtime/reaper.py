"""Destroys sessions out of the way of requests, and gives their memory back.

Giving it back holds the heap for milliseconds, from everyone who asks for memory: it waits
until nobody asks for answers, though not for ever. A load that comes meanwhile takes what
lies there, and is faster for it.
"""

import ctypes
import queue
import threading
from collections.abc import Callable

from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.runtime.slot import Resident

LOOK_S = 1.0
PATIENCE_S = 60.0


class Reaper:
    """One thread that destroys what it is given, once no request uses it."""

    def __init__(self, is_quiet: Callable[[], bool] = lambda: True) -> None:
        """Start the thread.

        Args:
            is_quiet: Says whether no requests come at present.
        """
        self._doomed: queue.Queue[Resident | None] = queue.Queue()
        self._is_quiet = is_quiet
        self._owed_s: float | None = None  # since when memory is to be given back
        threading.Thread(target=self._reap, name="reaper", daemon=True).start()

    def retire(self, resident: Resident) -> None:
        """Hand over a session that is out of service; returns at once."""
        self._doomed.put(resident)

    def tidy(self) -> None:
        """Give back what a load has left; returns at once."""
        self._doomed.put(None)

    def wait_until_done(self) -> None:
        """Block until all handed over is given back; leases are waited for."""
        self._doomed.join()
        _give_back()

    def _reap(self) -> None:
        while True:
            try:
                resident = self._doomed.get(
                    timeout=None if self._owed_s is None else LOOK_S
                )
            except queue.Empty:
                self._settle()
                continue
            if resident:
                resident.wait_until_idle()
                resident.session.close()
            del resident
            if self._owed_s is None:
                self._owed_s = monotonic_s()
            if self._doomed.empty():
                self._settle()
            self._doomed.task_done()

    def _settle(self) -> None:
        late = self._owed_s is not None and monotonic_s() - self._owed_s > PATIENCE_S
        if late or self._is_quiet():
            _give_back()
            self._owed_s = None


def _give_back() -> None:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc keeps it else
        libc.malloc_trim(0)
