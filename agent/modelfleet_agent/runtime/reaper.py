"""Destroys sessions out of the way of requests, and gives their memory back."""

import ctypes
import queue
import threading

from modelfleet_agent.runtime.slot import Resident


class Reaper:
    """One thread that destroys what it is given, once no request uses it."""

    def __init__(self) -> None:
        """Start the thread."""
        self._doomed: queue.Queue[Resident | None] = queue.Queue()
        threading.Thread(target=self._reap, name="reaper", daemon=True).start()

    def retire(self, resident: Resident) -> None:
        """Hand over a session that is out of service; returns at once."""
        self._doomed.put(resident)

    def tidy(self) -> None:
        """Give back what a load has left; returns at once."""
        self._doomed.put(None)

    def wait_until_done(self) -> None:
        """Block until everything handed over is destroyed; leases are waited for."""
        self._doomed.join()

    def _reap(self) -> None:
        libc = ctypes.CDLL(None)
        while True:
            resident = self._doomed.get()
            if resident:
                resident.wait_until_idle()
                resident.session.close()
            del resident
            if self._doomed.empty() and hasattr(libc, "malloc_trim"):  # glibc keeps it else
                libc.malloc_trim(0)
            self._doomed.task_done()
