"""The desk: what is wanted of each slot, and which engine is told so.

Everything here runs in the supervisor's thread. Engines work in threads of their own; the
desk starts them only in rest, and cancels what is not wanted any more.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from modelfleet_agent.errors import HeldError, RetryableError, UsageError
from modelfleet_agent.link.inbox import Inbox
from modelfleet_agent.link.partial import NOTE
from modelfleet_agent.store import Record, sweep
from modelfleet_agent.supervisor.keeper import Keeper
from modelfleet_agent.supervisor.mending import mend
from modelfleet_agent.supervisor.wanting import fits, goes_on, named
from modelfleet_agent.trust.door import TrustDoor
from modelfleet_agent.update.engine import Engine
from modelfleet_agent.update.goal import Goal, goal_of, record_of
from modelfleet_agent.update.phases import Phase
from modelfleet_agent.update.work import Tools
from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.evaluation import REFERENCE
from modelfleet_manifests.profiles import Facts, best_variant
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.resolve import resolve
from modelfleet_manifests.trust import TrustView, judge
from modelfleet_manifests.wanted import Action, Local, Reason, Wanted

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 30.0
_TIMED = frozenset({Reason.EXPIRED, Reason.WAITS_UNTIL})


@dataclass
class Desk:
    """Decides, and steers the engines.

    Attributes:
        tools: Shared by all slots.
        inbox: Documents.
        door: Trust.
        keeper: Of the runtime child; knows which slots have a rotten file.
        engines: By slot.
        budget: Bytes that the store may take.
        on_move: Called with a slot's name after each move, from any thread.
        facts: Of the device; nothing is decided before they are known.
        answers: Of the resolver, by slot.
    """

    tools: Tools
    inbox: Inbox
    door: TrustDoor
    keeper: Keeper
    engines: dict[str, Engine]
    budget: int
    on_move: Callable[[str], None]
    facts: Facts | None = None
    answers: dict[str, Wanted] = field(default_factory=dict)

    def open(self, slot: str) -> Engine:
        """Return the engine of `slot`, opening its journal and memory where needed."""
        if slot not in self.engines:
            engine = Engine(slot, self.tools, on_change=self.on_move)
            self.engines[slot] = engine
        return self.engines[slot]

    def decide(self) -> None:
        """Resolve from what is known now, and tell the engines."""
        if self.facts is None:
            return
        now = self.tools.clock()
        documents, view = self.inbox.documents(), self.door.view(now)
        locals_ = self._locals(now)
        self.answers = resolve(self.facts, documents, view, locals_, now)
        for slot, wanted in self.answers.items():
            if slot not in self.engines and wanted.action is not Action.INSTALL:
                continue
            goal = goal_of(wanted, view.releases, documents)
            self._steer(self.open(slot), wanted, goal)

    @property
    def is_reference(self) -> bool:
        """The director's labels make this a device that evaluates candidates."""
        held = self.inbox.documents().assignment
        return isinstance(held, Assignment) and held.labels.items() >= REFERENCE.items()

    @property
    def busy(self) -> bool:
        """Some slot is being worked on."""
        return any(engine.busy for engine in self.engines.values())

    @property
    def lacks_metadata(self) -> bool:
        """An answer waits for metadata, or for knowing what time it is."""
        reasons = {one.reason for one in self.answers.values()}
        if not self.door.is_confirmed and not reasons.isdisjoint(_TIMED):
            return True
        return Reason.WAITS_FOR_METADATA in reasons

    def wants(self) -> list[ReleaseRef]:
        """Return every release that a document, a slot or the store names."""
        refs = {ref.id: ref for ref in named(self.inbox.documents())}
        for record in self.tools.store.records():
            ref = ReleaseRef(model=record.model, version=record.version, id=record.release)
            refs.setdefault(ref.id, ref)
        return list(refs.values())

    def pause_s(self) -> float:
        """Return the seconds until an answer may change by itself, at most 30."""
        now = self.tools.clock()
        ends = [
            one.until - now
            for engine in self.engines.values()
            for one in engine.memory.state.quarantine
            if one.holds(now)
        ]
        ends += [
            int(passed.detail) - now
            for wanted in self.answers.values()
            for passed in wanted.passed
            if passed.reason is Reason.WAITS_UNTIL
        ]
        ends += [
            engine.failure.until - now
            for engine in self.engines.values()
            if isinstance(engine.failure, HeldError) and engine.failure.until
        ]
        waits = [engine.rest_s for engine in self.engines.values() if engine.rest_s]
        soonest = min([LOOK_AGAIN_S, *(end / 1000 for end in ends), *waits])
        return max(soonest, 0.05)

    def roll_back(self, slot: str, hours: float) -> str:
        """Begin to let `slot` run what it ran before, where that is allowed.

        Returns:
            What will serve, in words.

        Raises:
            UsageError: `E_SLOT`, `E_BUSY`, `E_NO_PREVIOUS`, `E_NOT_ALLOWED`.
            RetryableError: Its record is damaged.
        """
        engine = self.engines.get(slot)
        if engine is None:
            raise UsageError("E_SLOT", f"this device has no slot {slot!r}")
        if engine.busy or engine.entry.phase is not Phase.IDLE or self.facts is None:
            raise UsageError("E_BUSY", f"{slot} is being worked on; ask again later")
        previous, settled = self.tools.slots.previous(slot), engine.place.settled
        if previous is None or (settled and previous.key == settled.key):
            raise UsageError("E_NO_PREVIOUS", f"{slot} ran nothing else before")
        view, proven = self.door.view(self.tools.clock()), engine.memory.state.proven
        verdict = judge(previous.release, slot, view, self.facts, frozenset(proven))
        if verdict.variant is None or self.tools.is_stopped(previous):
            refusal = verdict.refusal or "stopped"
            what = f"{previous.version} may not run in {slot}: {refusal}"
            raise UsageError("E_NOT_ALLOWED", what)
        engine.roll_back(previous, "rolled back by hand at the device", hours)
        return f"{slot} goes back to {previous.model} {previous.version}"

    def sweep(self) -> bool:
        """Remove what no slot, document or unfinished work needs; False while one works."""
        if self.busy or self.facts is None:
            return False
        view = self.door.view(self.tools.clock())
        ids = {ref.id for ref in named(self.inbox.documents())}
        entries = [one.entry for one in self.engines.values() if goes_on(one, ids)]
        digests = {file.digest for e in entries if e.goal for file in e.goal.record.wanted}
        digests |= {patch.blob for e in entries for patch in e.patches}
        store, slots = self.tools.store, self.tools.slots
        try:
            self._mend(view)
        except RetryableError as error:
            self.tools.notice("", error)
            return False
        partials = {one for one in digests if store.incoming(one).exists()}
        busy = digests | {f"{one}{NOTE}" for one in partials}
        keep = [
            record_of(ref.id, release, variant)
            for ref in named(self.inbox.documents())
            if (release := view.releases.get(ref.id))
            and (variant := best_variant(self.facts, release.variants))
        ]
        try:
            swept = sweep(store, slots, budget=self.budget, keep=keep, busy=busy)
        except RetryableError as error:
            self.tools.notice("", error)
            return False
        if swept.removed:
            log.info("MF_SWEPT files=%d bytes=%d", swept.removed, swept.freed)
        return True

    def _mend(self, view: TrustView) -> None:
        signed = [
            record_of(release_id, release, variant)
            for release_id, release in view.releases.items()
            for variant in release.variants
        ]
        for slot, engine in self.engines.items():
            mine = (engine.memory.state.current, engine.place.settled)
            known = [*signed, *(record for record in mine if record)]
            mend(self.tools.store, self.tools.slots, slot, known)

    def _locals(self, now: int) -> dict[str, Local]:
        store = self.tools.store
        present = frozenset(
            record.release for record in store.records() if not store.missing(record)
        )
        return {
            slot: self._local(engine, present, now) for slot, engine in self.engines.items()
        }

    def _local(self, engine: Engine, present: frozenset[str], now: int) -> Local:
        state, settled = engine.memory.state, engine.place.settled
        return Local(
            release=settled.release if settled else None,
            digest=settled.digest if settled else None,
            model=settled.model if settled else "",
            version=settled.version if settled else "",
            files=frozenset(file.digest for file in settled.files)
            if settled
            else frozenset(),
            ran=state.ran,
            present=present,
            proven=frozenset(state.proven),
            begun=frozenset(state.begun),
            quarantine=state.quarantined(now),
        )

    def _steer(self, engine: Engine, wanted: Wanted, goal: Goal | None) -> None:
        if engine.busy or engine.entry.phase is not Phase.IDLE:
            if not engine.busy and not engine.rest_s:
                engine.resume()
            if not fits(engine, wanted, goal):
                engine.cancel()
        elif wanted.action is Action.INSTALL and goal:
            self._install(engine, wanted, goal)
        elif wanted.action in {Action.REMOVE, Action.STOP}:
            if not engine.rest_s:
                engine.remove()
        else:
            self._keep(engine, wanted)

    def _install(self, engine: Engine, wanted: Wanted, goal: Goal) -> None:
        current = engine.memory.state.current
        if engine.slot in self.keeper.rotten and current:
            goal = msgspec.structs.replace(
                goal, repair=current.key == goal.record.key or goal.repair
            )
        if not self._may_start(engine, goal):
            if wanted.reason is Reason.RECALLED:  # nothing stopped goes on meanwhile
                engine.remove()
            return
        engine.start(goal)

    def _keep(self, engine: Engine, wanted: Wanted) -> None:
        state = engine.memory.state
        if engine.slot in self.keeper.rotten:
            goal = self._repair(engine)
            if goal and self._may_start(engine, goal):
                engine.start(goal)
            return
        if engine.failure:
            engine.forgive()
        if self._is_stale(engine):
            goal = self._repair(engine)
            if goal and self._may_start(engine, goal):
                engine.start(goal)
            return
        if wanted.reason is Reason.AS_WANTED and wanted.step:
            begun = msgspec.structs.replace(state.begin(wanted.step), step=wanted.step)
            engine.remember(begun)

    def _is_stale(self, engine: Engine) -> bool:
        """Say whether what this device made of the running release fits it no more."""
        record = engine.place.settled
        return record is not None and self.tools.deriver.is_stale(record)

    def _repair(self, engine: Engine) -> Goal | None:
        state = engine.memory.state
        record: Record | None = state.current or engine.place.settled
        if record is None or self.tools.is_stopped(record):
            return None
        return Goal(
            record=record, variant=state.variant or record.profile, trial_ms=0, repair=True
        )

    def _may_start(self, engine: Engine, goal: Goal) -> bool:
        if engine.waits_s(goal) > 0:
            return False
        held = engine.memory.state.quarantined(self.tools.clock())
        if (goal.step or "", goal.record.digest) in held:
            return False
        return not engine.is_held(goal)
