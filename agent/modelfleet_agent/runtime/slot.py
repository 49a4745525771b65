"""A slot in the runtime child: which session answers, which waits beside it.

Moving the pointer takes microseconds. A request holds a lease on the session that it began
with, so that one ends on the session it started on; a session that is out of service is
destroyed by the reaper once its last lease is back, never on the request path.
"""

import threading
from collections.abc import Callable

from modelfleet_agent.clock import monotonic_us
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime.counters import Counters
from modelfleet_agent.runtime.messages import Activated, ReleaseStatistics
from modelfleet_agent.runtime.session import Session

MOST_HISTORIES = 8


class Resident:
    """A session in memory, its leases and its counters."""

    def __init__(self, session: Session, counters: Counters) -> None:
        """Nobody holds a lease yet."""
        self.session = session
        self.counters = counters
        self._leases = 0
        self._changed = threading.Condition()

    @property
    def key(self) -> str:
        """`Record.key` of the session."""
        return self.session.key

    def lease(self) -> None:
        """Keep the session alive until `give_back`."""
        with self._changed:
            self._leases += 1

    def give_back(self) -> None:
        """End one lease."""
        with self._changed:
            self._leases -= 1
            if not self._leases:
                self._changed.notify_all()

    def wait_until_idle(self) -> None:
        """Block until no request holds a lease."""
        with self._changed:
            self._changed.wait_for(lambda: not self._leases)


class Slot:
    """One slot. `retire` is given each session that goes out of service."""

    def __init__(self, name: str, retire: Callable[[Resident], None]) -> None:
        """Nothing is loaded."""
        self.name = name
        self.active: Resident | None = None
        self.previous: Resident | None = None
        self._candidate: Resident | None = None
        self._histories: dict[str, Counters] = {}
        self._retire = retire
        self._lock = threading.Lock()

    def lease(self) -> Resident | None:
        """Return the active session with a lease on it; None where there is none."""
        with self._lock:
            if self.active:
                self.active.lease()
            return self.active

    def borrow(self, key: str) -> Resident | None:
        """Return the session `key` with a lease on it; None where it is not in memory."""
        with self._lock:
            there = self.resident(key)
            if there:
                there.lease()
            return there

    def resident(self, key: str) -> Resident | None:
        """Return the session `key`, if it is in memory in any place."""
        held = (self.active, self.previous, self._candidate)
        return next((there for there in held if there and there.key == key), None)

    def offer(self, session: Session) -> None:
        """Take a warm session as the candidate; an earlier candidate is retired."""
        with self._lock:
            resident = Resident(session, self._history(session))
            displaced, self._candidate = self._candidate, resident
        if displaced:
            self._retire(displaced)

    def activate(self, key: str) -> Activated:
        """Point at the candidate or at the previous session `key`. Idempotent.

        Raises:
            RetryableError: `E_NOT_LOADED`.
        """
        began = monotonic_us()
        with self._lock:
            displaced = self._move_to(key)
            move_us = monotonic_us() - began
        if displaced:
            self._retire(displaced)
        previous = self.previous.key if self.previous else None
        return Activated(key=key, previous=previous, move_us=move_us)

    def _move_to(self, key: str) -> Resident | None:
        was, candidate = self.active, self._candidate
        if candidate and candidate.key == key:
            self._candidate, self.active = None, candidate
            if was and was.key == key:  # loaded again after a repair
                return was
            displaced, self.previous = self.previous, was
            return displaced
        if was and was.key == key:
            return None
        if self.previous and self.previous.key == key:
            self.active, self.previous = self.previous, was
            return None
        raise RetryableError("E_NOT_LOADED", f"{key} is not loaded in slot {self.name}")

    def restore(self) -> Activated:
        """Point at the previous session; what failed becomes the previous one.

        Raises:
            RetryableError: `E_NOT_LOADED`: there is none.
        """
        previous = self.previous
        if previous is None:
            raise RetryableError(
                "E_NOT_LOADED", f"slot {self.name} holds no previous session"
            )
        return self.activate(previous.key)

    def discard(self, key: str) -> None:
        """Retire the candidate or previous session `key`. Idempotent."""
        doomed = []
        with self._lock:
            if self._candidate and self._candidate.key == key:
                doomed.append(self._candidate)
                self._candidate = None
            if self.previous and self.previous.key == key:
                doomed.append(self.previous)
                self.previous = None
        for resident in doomed:
            self._retire(resident)

    def clear(self) -> None:
        """Retire everything; requests get no session from now on. Idempotent."""
        with self._lock:
            doomed = [self.active, self.previous, self._candidate]
            self.active = self.previous = self._candidate = None
        for resident in doomed:
            if resident:
                self._retire(resident)

    def statistics(self) -> list[ReleaseStatistics]:
        """Return the counters of this slot's last releases."""
        with self._lock:
            active = self.active.key if self.active else None
            histories = dict(self._histories)
        return [c.statistics(active=key == active) for key, c in histories.items()]

    def _history(self, session: Session) -> Counters:
        counters = self._histories.pop(session.key, None)
        self._histories[session.key] = counters or Counters(self.name, session.record)
        idle = [
            key for key in self._histories if key != session.key and not self.resident(key)
        ]
        for key in idle[: max(len(self._histories) - MOST_HISTORIES, 0)]:
            del self._histories[key]
        return self._histories[session.key]
