"""The slots of the runtime child and what can be ordered of them."""

import os
import secrets
import threading
from pathlib import Path

from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.runtime.messages import Activated, Loaded, Statistics, Verified
from modelfleet_agent.runtime.reaper import Reaper
from modelfleet_agent.runtime.session import Session
from modelfleet_agent.runtime.slot import Resident, Slot
from modelfleet_agent.runtime.watchdog import Watchdog
from modelfleet_agent.store.record import Placed

QUIET_S = 1.0


class Serving:
    """All slots of this process; safe in threads, loads come one at a time."""

    def __init__(self, *, request_s: float) -> None:
        """No slot holds anything; a run may take `request_s` seconds."""
        self.watchdog = Watchdog(request_s)
        self.slots: dict[str, Slot] = {}
        self.boot = secrets.token_hex(8)
        self.rejected = 0
        self.draining: frozenset[str] = frozenset()  # about to be loaded anew
        self.closed: frozenset[str] = frozenset()  # to local clients, by their own wish
        self._asked_s = -QUIET_S
        self._reaper = Reaper(self._is_quiet)
        self._loading = threading.Lock()

    def load(self, slot: str, placed: Placed, threads: int) -> Loaded:
        """Load a release beside the one that answers; a resident one is hashed again.

        Raises:
            AgentError: As `Session`.
        """
        with self._loading:
            place = self.slots.get(slot) or Slot(slot, self._reaper.retire)
            return self._resident(place, placed) or self._load(place, placed, threads)

    def _resident(self, place: Slot, placed: Placed) -> Loaded | None:
        held = place.borrow(placed.record.key)
        if held is None:
            return None
        digest = placed.record.digest
        try:
            intact = held.session.digests() == (digest, digest)
        finally:
            held.give_back()
        if not intact or held.session.derived != placed.derived:
            return None
        warm_ms = held.session.warm_ms
        return Loaded(
            key=held.key,
            digest=digest,
            load_ms=0,
            warm_ms=warm_ms,
            resident=True,
            memory_kib=0,
        )

    def _load(self, place: Slot, placed: Placed, threads: int) -> Loaded:
        before = resident_kib()
        # hashing on a second processor would take it from those that ask
        session = Session(placed, threads=threads, hurried=self._is_quiet())
        try:
            session.warm()
        except AgentError:
            session.close()
            raise
        place.offer(session)
        self._reaper.tidy()
        self.slots = {**self.slots, place.name: place}  # replaced, never changed: no lock
        return Loaded(
            key=session.key,
            digest=session.record.digest,
            load_ms=session.load_ms,
            warm_ms=session.warm_ms,
            resident=False,
            memory_kib=max(resident_kib() - before, 0),
        )

    def activate(self, slot: str, key: str) -> Activated:
        """Move the pointer of `slot`; see `Slot.activate`."""
        activated = self._slot(slot).activate(key)
        self.draining = self.draining - {slot}
        return activated

    def restore(self, slot: str) -> Activated:
        """Move the pointer of `slot` back; see `Slot.restore`."""
        return self._slot(slot).restore()

    def discard(self, slot: str, key: str) -> None:
        """Drop a session that is not active. Idempotent."""
        if place := self.slots.get(slot):
            place.discard(key)

    def unload(self, slot: str, *, drains: bool = False) -> None:
        """Drop a slot. Idempotent.

        With `drains` its requests are answered 503 until something is activated, and this
        returns when its memory is given back.
        """
        others = self.draining - {slot}
        self.draining = others | {slot} if drains else others
        if place := self.slots.get(slot):
            self.slots = {name: held for name, held in self.slots.items() if name != slot}
            place.clear()
        if drains:
            self._reaper.wait_until_done()

    def verify(self, slot: str) -> Verified:
        """Hash the active session's files now.

        Raises:
            RetryableError: `E_NOT_LOADED`.
        """
        place = self.slots.get(slot)
        resident = place.lease() if place else None
        if resident is None:
            raise RetryableError("E_NOT_LOADED", f"slot {slot} has no active release")
        try:
            mapped, disk = resident.session.digests()
        finally:
            resident.give_back()
        intact = mapped == disk == resident.session.record.digest
        return Verified(key=resident.key, digest=disk, mapped=mapped, intact=intact)

    def lease(self, slot: str) -> Resident | None:
        """Return the active session of `slot` with a lease on it, or None."""
        self._asked_s = monotonic_s()
        place = self.slots.get(slot)
        return place.lease() if place else None

    def reject(self) -> None:
        """Count a request that found the queue full; called by the event loop only."""
        self.rejected += 1

    def statistics(self) -> Statistics:
        """Return all counters."""
        return Statistics(
            boot=self.boot,
            rss_kib=resident_kib(),
            rejected=self.rejected,
            releases=[row for slot in self.slots.values() for row in slot.statistics()],
        )

    def _is_quiet(self) -> bool:
        return monotonic_s() - self._asked_s > QUIET_S

    def _slot(self, name: str) -> Slot:
        if name not in self.slots:
            raise RetryableError("E_NOT_LOADED", f"slot {name} holds nothing")
        return self.slots[name]


def resident_kib() -> int:
    """Return the resident memory of this process in KiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024
