"""The runtime child's keeper: what is kept serves, after a boot and after every death.

It needs no network, no document and no clock: what the slots' links name is hashed and
loaded, and where that is altered or kills the child, what ran before.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime.client import RuntimeExit
from modelfleet_agent.store import Record
from modelfleet_agent.update.engine import Engine
from modelfleet_agent.update.phases import Phase
from modelfleet_agent.update.policy import Backoff, Rng
from modelfleet_agent.update.state import Failure, quarantine
from modelfleet_agent.update.work import Tools

log = logging.getLogger(__name__)

MOST_DEATHS = 3
WINDOW_S = 600.0
RESTART = Backoff(first_ms=1_000, most_ms=60_000)


class Keeper:
    """Serves what is settled. `died` may be called from any thread."""

    def __init__(
        self,
        tools: Tools,
        engines: Mapping[str, Engine],
        *,
        on_change: Callable[[], None],
    ) -> None:
        """Take what there is; nothing is started.

        Args:
            tools: Shared by all slots.
            engines: By slot; the caller adds to it.
            on_change: Called when something serves again, from any thread.
        """
        self.rotten: set[str] = set()
        self._tools = tools
        self._rng: Rng = tools.rng
        self._engines = engines
        self._on_change = on_change
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def is_whole(self) -> bool:
        """Say whether every slot that has a release serves the one it settled on."""
        if self._tools.runtime.ready is None or self.rotten:
            return False
        keys = self._tools.slots.keys
        engines = list(self._engines.values())
        return all(one.place.serving is not None or not keys(one.slot) for one in engines)

    def close(self) -> None:
        """Start nothing any more."""
        self._closing.set()

    def boot(self) -> None:
        """Start the child and let every slot serve what it is to serve.

        Raises:
            RetryableError: `E_RUNTIME_START`: there is no child to be had.
        """
        with self._lock:
            self._tools.runtime.start()
            for engine in list(self._engines.values()):
                self._boot_slot(engine)
        self._on_change()

    def died(self, ended: RuntimeExit) -> None:
        """Start the child again; called by the runtime client, in a thread of its own."""
        log.error("MF_RUNTIME it ended: %s\n%s", ended.reason, ended.stderr[-2000:])
        self._tools.notice("", RetryableError("E_RUNTIME_DIED", ended.reason))
        self._on_change()
        engines = list(self._engines.values())
        # a death in a trial is the trial's fault, and the engine sees to that
        on_trial = any(one.busy and one.entry.phase is Phase.TRIAL for one in engines)
        if not on_trial:
            self._deaths.append(monotonic_s())
            if self._too_many():
                self._give_up_newest()
                self._deaths.clear()
        self._revive()

    def _revive(self) -> None:
        failures = max(len(self._deaths) - 1, 0)
        while not self._closing.is_set():
            if failures and self._closing.wait(RESTART.wait_ms(failures, self._rng) / 1000):
                return
            try:
                self.boot()
            except RetryableError as error:
                failures += 1
                log.error("MF_RUNTIME it does not start: %s", error)  # noqa: TRY400 - said all
                self._tools.notice("", error)
            else:
                return

    def _too_many(self) -> bool:
        full = len(self._deaths) == MOST_DEATHS
        return full and self._deaths[-1] - self._deaths[0] < WINDOW_S

    def _give_up_newest(self) -> None:
        """Put the slot that changed last back on what ran before."""
        able = [
            (engine.memory.state.since, engine)
            for engine in self._engines.values()
            if not engine.busy and self._has_other_previous(engine)
        ]
        if not able:
            return  # nothing else is here: the same again, with backoff
        engine = max(able, key=lambda pair: pair[0])[1]
        record = engine.place.settled or self._read(engine, "current")
        state = engine.memory.state
        why = f"the runtime died {MOST_DEATHS} times within {WINDOW_S:g} s"
        digest = record.digest if record else ""
        failure = Failure(state.step, digest, "E_RUNTIME_DEATHS", why)
        state = quarantine(state, failure, self._tools.clock(), self._rng)
        previous = self._tools.slots.restore(engine.slot)
        engine.memory.save(
            msgspec.structs.replace(state, current=previous, variant="", step=None)
        )
        log.error("MF_RUNTIME slot=%s %s; back to %s", engine.slot, why, previous.version)

    def _has_other_previous(self, engine: Engine) -> bool:
        current, previous = self._read(engine, "current"), self._read(engine, "previous")
        if previous is None or self._tools.is_stopped(previous):
            return False
        return current is None or current.key != previous.key

    def _boot_slot(self, engine: Engine) -> None:
        if engine.busy and engine.entry.phase in {Phase.TRIAL, Phase.RESTORING}:
            return  # the engine is about to restore what is settled
        self.rotten.discard(engine.slot)
        for which in ("current", "previous"):
            record = self._read(engine, which)
            if record is None:
                continue
            if self._tools.is_stopped(record):
                log.error(
                    "MF_STOPPED slot=%s version=%s is not started",
                    engine.slot,
                    record.version,
                )
                continue
            if engine.serve(record, doubted=bool(self._deaths)):
                return
            if which == "current":  # missing, altered, or it does not load any more
                self.rotten.add(engine.slot)
        engine.place.settle(None)

    def _read(self, engine: Engine, which: str) -> Record | None:
        slots, slot = self._tools.slots, engine.slot
        try:
            return slots.current(slot) if which == "current" else slots.previous(slot)
        except RetryableError as error:
            self._tools.notice(slot, error)
            log.error("MF_DAMAGED slot=%s %s", slot, error)  # noqa: TRY400 - it says all
            kept = engine.memory.state.current
            if which != "current" or kept is None:
                return None
            self._tools.store.put(kept)  # the memory has it, too
            return kept
