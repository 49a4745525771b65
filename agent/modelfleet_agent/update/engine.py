"""The engine of one slot: journal, then effect, in a thread that lives while work goes on.

The supervisor's thread says what is wanted (`start`, `remove`, `cancel`, `resume`); the
engine's thread works and calls `on_change` after each move. What is in the journal when the
agent dies is what `resume` goes on with.
"""

import logging
import threading
from collections.abc import Callable

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import (
    AgentError,
    HeldError,
    RefusedError,
    RetryableError,
)
from modelfleet_agent.journal import Pages, read_value
from modelfleet_agent.store import Record
from modelfleet_agent.update import fetching, holding, returning, trying
from modelfleet_agent.update.ahead import Ahead
from modelfleet_agent.update.goal import Goal
from modelfleet_agent.update.phases import OWED, Effect, Event, Phase, step
from modelfleet_agent.update.policy import RETRY
from modelfleet_agent.update.state import Failure, SlotState, StateFile, quarantine
from modelfleet_agent.update.work import Entry, FallBackError, Place, Tools, Work

log = logging.getLogger(__name__)

PAGE = 1 << 15
MOST_TRIES = 3
EFFECTS: dict[Effect, Callable[[Work], None]] = {
    Effect.FETCH: fetching.fetch,
    Effect.PATCH: fetching.patch,
    Effect.TEST: trying.test,
    Effect.SWITCH: trying.switch,
    Effect.RESTORE: returning.restore,
    Effect.REMOVE: returning.remove,
}
# Work that ends as it must, whatever is wanted by now.
_UNSTOPPABLE = frozenset({Phase.RESTORING, Phase.REMOVING})
# A phase that takes the whole device down with it is given up after `MOST_TRIES` boots; a
# download is not: the power may go every evening.
_SUSPECT = frozenset({Phase.PATCHING, Phase.TESTING, Phase.TRIAL})


class Engine:
    """Brings one slot to its goal. At most one thread works at a time."""

    def __init__(
        self, slot: str, tools: Tools, *, on_change: Callable[[str], None]
    ) -> None:
        """Read the journal and the memory of `slot`; nothing is done yet.

        Args:
            slot: Its name.
            tools: Shared by all slots.
            on_change: Called with the slot's name after each move, in the engine's thread.
        """
        self.slot = slot
        self.place = Place()
        self.memory = StateFile(tools.dir / "state", slot)
        self.failure: AgentError | None = None
        self._tools = tools
        self._ahead = Ahead(tools.memory, tools.reserve)
        self._on_change = on_change
        journal = fsio.private_dir(tools.dir / "journal")
        self._journal = Pages(journal / slot, size=PAGE)
        self.entry = read_value(self._journal, Entry, Entry())
        self._failures, self._waits_until = 0, 0.0
        self._cancel = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Work goes on."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def goal(self) -> Goal | None:
        """What is worked on, or was left off; None in rest."""
        return self.entry.goal if self.entry.phase is not Phase.IDLE else None

    def start(self, goal: Goal) -> None:
        """Begin to bring the slot to `goal`; only in rest."""
        before = self.entry
        entry = Entry(goal=goal)
        if goal.is_same(before.goal):  # it failed before: the bytes count, a bad delta too
            entry = before.begin_again(goal)
        else:
            self.forgive()
        self._begin(self._first(goal), entry)

    @property
    def rest_s(self) -> float:
        """Seconds to wait after the last failure; 0 without one."""
        return max(self._waits_until - monotonic_s(), 0)

    def waits_s(self, goal: Goal) -> float:
        """Return the seconds to wait before `goal` is tried; 0 where it did not fail."""
        return self.rest_s if goal.is_same(self.entry.goal) else 0

    def is_held(self, goal: Goal) -> bool:
        """Say whether this device's settings hold `goal` back; only in rest."""
        why = holding.find_hold(self._tools, goal, self.place, self.memory.state)
        if why is not None:
            self.failure = why
        return why is not None

    def remember(self, state: SlotState) -> None:
        """Replace what the slot remembers; only in rest. A disk that refuses is told."""
        try:
            self.memory.save(state)
        except RetryableError as error:
            self._tools.notice(self.slot, error)

    def remove(self) -> None:
        """Begin to empty the slot; only in rest."""
        self._begin(Event.UNWANTED, Entry())

    def roll_back(self, record: Record, why: str, hours: float) -> None:
        """Begin to let `record`, which ran before, answer again; only in rest.

        What answers now is not tried again for `hours`, or until the step changes.
        """
        self._spawn(lambda: returning.roll_back(self._work(), record, why, hours))

    def resume(self) -> None:
        """Go on with what the journal says. Does nothing where it says rest."""
        if self.entry.phase is not Phase.IDLE:
            tries = self.entry.tries + 1
            self._spawn(
                lambda: self._again(msgspec.structs.replace(self.entry, tries=tries))
            )

    def cancel(self) -> None:
        """Something else is wanted: end what goes on, where it can be ended."""
        self._cancel.set()

    def forgive(self) -> None:
        """Forget the last failure: what failed is done, or not wanted any more."""
        self.failure, self._failures, self._waits_until = None, 0, 0.0

    def close(self, timeout_s: float) -> None:
        """End the thread; the journal keeps the phase for the next start."""
        self._closing.set()
        self._cancel.set()
        thread = self._thread  # it forgets itself as it ends
        if thread:
            thread.join(timeout_s)

    def serve(self, record: Record, *, doubted: bool = False) -> bool:
        """Let `record`, which is on disk, answer: at boot and after the child's death.

        Args:
            record: What is to answer.
            doubted: Hash before loading; see `returning.bring_back`.

        Raises:
            RetryableError: The runtime child cannot be had.
        """
        return returning.bring_back(self._work(), record, doubted=doubted)

    def _first(self, goal: Goal) -> Event:
        if goal.repair or self._tools.store.missing(goal.record):
            return Event.WANTED
        proven = self.memory.state.is_proven(goal.record)
        return Event.PROVEN if proven else Event.PRESENT

    def _begin(self, event: Event, entry: Entry) -> None:
        move = step(Phase.IDLE, event)
        phase = msgspec.structs.replace(entry, phase=move.phase)
        self._spawn(lambda: self._enter(phase, move.effect))

    def _spawn(self, begin: Callable[[], None]) -> None:
        assert not self.busy  # noqa: S101 - the supervisor asks `busy` first
        self._cancel = threading.Event()
        self._thread = threading.Thread(
            target=self._live, args=(begin,), name=f"update-{self.slot}", daemon=True
        )
        self._thread.start()

    def _live(self, begin: Callable[[], None]) -> None:
        try:
            begin()
        except AgentError as error:  # the journal could not be written: nothing was done
            log.warning("MF_DISK slot=%s the journal: %s", self.slot, error)
            self._defer(error)
        except Exception as error:
            log.exception("MF_DEFECT slot=%s", self.slot)
            self._defer(RetryableError("E_INTERNAL", f"{type(error).__name__}: {error}"))
        self._ahead.drop()
        # not before the thread is over: the supervisor looks at `busy`
        self._thread = None
        self._on_change(self.slot)

    def _again(self, entry: Entry) -> None:
        self._write(entry)
        effect: Effect | None = OWED[entry.phase]
        if entry.phase in _SUSPECT and entry.tries > MOST_TRIES:
            why = f"the agent ended {MOST_TRIES} times while {entry.phase}"
            effect = self._end(RefusedError("E_REPEATED", why), self._work())
        self._run(effect)

    def _enter(self, entry: Entry, effect: Effect) -> None:
        self._write(entry)
        self._run(effect)

    def _run(self, effect: Effect | None) -> None:
        """Work until there is rest, or until the agent ends."""
        while effect is not None and effect is not Effect.NOTHING:
            if self._closing.is_set():
                return
            effect = self._perform(effect)

    def _perform(self, effect: Effect) -> Effect | None:
        """Run one effect and journal the move; None where the agent ends."""
        work = self._work()
        try:
            EFFECTS[effect](work)
        except FallBackError:  # told of where it was found out
            return self._move(Event.FALL_BACK, work.entry)
        except AgentError as why:
            if self._closing.is_set():  # asked to end: no sign against the release
                self._write(msgspec.structs.replace(self.entry, tries=0))
                return None  # the next start goes on from the journal
            return self._end(why, work)
        if self.entry.phase in {Phase.TRIAL, Phase.REMOVING}:
            self.forgive()
        return self._move(Event.DONE, work.entry)

    def _end(self, error: AgentError, work: Work) -> Effect:
        """Remember a failure, journal the move and return the effect that it asks for."""
        if work.cancel.is_set():
            return self._move(Event.CANCELLED, work.entry)
        log.warning("MF_UPDATE slot=%s phase=%s %s", self.slot, self.entry.phase, error)
        if isinstance(error, RefusedError):
            error = self._refuse(error, work)
        self._defer(error)
        return self._move(Event.FAILED, work.entry)

    def _refuse(self, error: RefusedError, work: Work) -> AgentError:
        """Quarantine the release, unless it was only damaged since it was fetched."""
        here = self.entry.phase in {Phase.TESTING, Phase.TRIAL}
        if here and error.code == "E_DIGEST" and fetching.discard_altered(work):
            return RetryableError("E_BIT_ROT", error.what, hint="it is fetched again")
        if here and error.code == "E_DERIVED":  # altered since its self-test
            self._tools.deriver.drop(work.record)
            return RetryableError("E_BIT_ROT", error.what, hint="it is made again")
        goal = work.goal
        failed = Failure(goal.step, goal.record.digest, error.code, error.what)
        now = self._tools.clock()
        self.memory.save(quarantine(self.memory.state, failed, now, self._tools.rng))
        return error

    def _move(self, event: Event, entry: Entry) -> Effect:
        self.entry = entry
        phase, effect = step(entry.phase, event)
        if phase is entry.phase and effect is not Effect.NOTHING:
            self._on_change(self.slot)  # restoring or removing, once more
            self._closing.wait(self._waits_until - monotonic_s())
            return effect
        done = phase is Phase.IDLE and event is Event.DONE and entry.phase is Phase.TRIAL
        entry = Entry() if done else entry
        self._write(msgspec.structs.replace(entry, phase=phase, tries=0))
        return effect

    def _defer(self, error: AgentError) -> None:
        self.failure = error
        if isinstance(error, HeldError) and error.until is not None:
            wait_ms = min(max(error.until - self._tools.clock(), 0), RETRY.most_ms)
        else:
            self._failures += 1
            wait_ms = RETRY.wait_ms(self._failures, self._tools.rng)
        self._waits_until = monotonic_s() + wait_ms / 1000

    def _write(self, entry: Entry) -> None:
        self._journal.write(msgspec.json.encode(entry))
        self.entry = entry
        self._on_change(self.slot)

    def _work(self) -> Work:
        return Work(
            slot=self.slot,
            entry=self.entry,
            tools=self._tools,
            memory=self.memory,
            place=self.place,
            ahead=self._ahead,
            cancel=threading.Event() if self.entry.phase in _UNSTOPPABLE else self._cancel,
        )
