"""The supervisor's thread: one event after the other, then a look at the clock."""

import logging
import queue
import threading
from dataclasses import dataclass

from modelfleet_agent import facts
from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.link import mqtt
from modelfleet_agent.link.inbox import Accepted, NeedsMetadata, Outcome, Refused
from modelfleet_agent.reference.standby import Standby
from modelfleet_agent.report.outbox import read_ack
from modelfleet_agent.supervisor import wishes
from modelfleet_agent.supervisor.desk import Desk
from modelfleet_agent.supervisor.history import History
from modelfleet_agent.supervisor.notify import Notifier
from modelfleet_agent.supervisor.proving import Proof
from modelfleet_agent.supervisor.refresh import Refresher
from modelfleet_agent.supervisor.teller import Teller
from modelfleet_agent.supervisor.voice import Voice
from modelfleet_agent.supervisor.witness import Witness
from modelfleet_agent.trust.messages import UNTOLD
from modelfleet_agent.update.phases import Phase
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.topics import RECALLS, TIMESTAMP, parse_topic

log = logging.getLogger(__name__)

LONGEST_S = 1.0  # what people at the device wish is seen within it
AFTER_DEFECT_S = 1.0


@dataclass(frozen=True, slots=True)
class Moved:
    """A slot's engine, or the runtime child (""), is somewhere else."""

    slot: str


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A refresh of the metadata ended."""

    error: AgentError | None


@dataclass(frozen=True, slots=True)
class Recalled:
    """A message of recalls was judged."""

    error: AgentError | None


@dataclass(frozen=True, slots=True)
class Probed:
    """The device is known."""

    facts: Facts


@dataclass(frozen=True, slots=True)
class Stopped:
    """The supervisor is to end; this only wakes it."""


Event = mqtt.Event | Moved | Refreshed | Recalled | Probed | Stopped
Events = queue.SimpleQueue[Event]  # a signal handler may put into it while this thread does


@dataclass
class Parts:
    """What the supervisor holds together."""

    events: Events
    desk: Desk
    refresher: Refresher
    session: mqtt.Session
    voice: Voice
    teller: Teller
    witness: Witness
    notifier: Notifier
    history: History
    proof: Proof
    standby: Standby


class Supervisor:
    """Runs until `stop`. All but `stop` in one thread."""

    def __init__(self, parts: Parts) -> None:
        """Take the parts; the keeper has booted, the session is not started."""
        self._parts = parts
        self._desk = parts.desk
        self._stopping = False
        self._dirty = True  # a report may be due
        self._decide_at = 0.0
        self._untidy = True  # files may lie about that nothing needs
        self._needs: object = None
        self._recalls: bytes | None = None
        self._waiting: list[mqtt.Arrived] = []

    def stop(self) -> None:
        """End soon; may be called from a signal handler."""
        self._stopping = True
        self._parts.events.put(Stopped())

    def run(self) -> None:
        """Take events until `stop`."""
        self._parts.teller.tell_endpoint()
        self._parts.session.set_groups(self._desk.inbox.groups())
        self._parts.session.start()
        self._parts.notifier.ready()
        while not self._stopping:
            try:
                self._take()
                self._look()
            except Exception as error:
                # a defect in deciding must not end what serves
                log.exception("MF_DEFECT supervisor")
                self._parts.voice.complain("E_INTERNAL", f"{type(error).__name__}: {error}")
                threading.Event().wait(AFTER_DEFECT_S)  # and must not burn the processor
        self._parts.notifier.stopping()
        self._parts.teller.tell_status()

    def _take(self) -> None:
        """Handle what is in the queue; wait for one event at most."""
        pause = min(LONGEST_S, max(self._decide_at - monotonic_s(), 0.01))
        try:
            self._handle(self._parts.events.get(timeout=0.1 if self._dirty else pause))
            while True:
                self._handle(self._parts.events.get_nowait())
        except queue.Empty:
            return

    def _handle(self, event: Event) -> None:
        if isinstance(event, Stopped):
            return  # no reason to decide or report
        self._dirty = True
        self._decide_at = 0.0
        match event:
            case Moved(slot):
                self._moved(slot)
            case Refreshed(error):
                self._refreshed(error)
            case Recalled(error):
                if error:
                    self._complain(error)
            case Probed(found):
                self._learn(found)
            case _:
                self._handle_link(event)

    def _learn(self, found: Facts) -> None:
        """Take what the device is; where that changed, variants are chosen anew."""
        self._desk.facts = found
        directory, now = self._desk.tools.dir, self._desk.tools.clock()
        try:
            changes = facts.remember(directory, found)
        except RetryableError as error:
            self._complain(error)
            return
        if changes:
            self._parts.history.note_facts(changes, now)
            self._parts.voice.complain("E_FACTS_CHANGED", "; ".join(changes))

    def _handle_link(self, event: mqtt.Event) -> None:
        match event:
            case mqtt.Arrived():
                self._hear(event)
            case mqtt.Connected():
                self._parts.voice.repeat()
            case mqtt.Disconnected(reason):
                log.info("MF_LINK disconnected: %s", reason)
            case mqtt.Delivered(number):
                self._parts.voice.delivered(number)

    def _hear(self, message: mqtt.Arrived) -> None:
        try:
            if message.topic == RECALLS:
                self._recall(message.payload)
            elif message.topic != TIMESTAMP:  # by itself it is no reason to fetch
                self._read(message)
        except RetryableError as error:  # the disk is in the way: judged again later
            self._complain(error)
            self._waiting.append(message)

    def _read(self, message: mqtt.Arrived) -> None:
        address = parse_topic(message.topic)
        if address and address.kind == "ack":
            ack = read_ack(message.payload)
            if ack:
                self._parts.voice.acknowledge(ack)
                self._parts.proof.heard()
            return
        self._judge([self._desk.inbox.receive(message.topic, message.payload)])

    def _judge(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            match outcome:
                case Accepted():
                    self._needs, self._untidy = None, True
                case Refused(topic, code, why):
                    log.warning("MF_REFUSED topic=%s %s: %s", topic, code, why)
                    self._parts.voice.complain(code, f"{topic}: {why}")
                case NeedsMetadata():
                    self._parts.refresher.need(self._desk.wants, anew=True)
                case _:
                    continue
        self._parts.session.set_groups(self._desk.inbox.groups())

    def _recall(self, payload: bytes) -> None:
        if not payload:
            return
        self._recalls = payload  # judged again after a refresh: the keys may be new
        events = self._parts.events
        self._parts.refresher.recall(payload, lambda error: events.put(Recalled(error)))

    def _refreshed(self, error: AgentError | None) -> None:
        self._parts.refresher.finished(error)
        if error:
            self._complain(error)
        if error and error.code != UNTOLD:
            return
        if self._recalls:
            self._recall(self._recalls)
        self._judge(self._desk.inbox.recheck())

    def _moved(self, slot: str) -> None:
        self._parts.teller.tell_endpoint()
        engine = self._desk.engines.get(slot)
        for name, one in self._desk.engines.items():
            if slot in {"", name} and not one.busy:
                now = self._desk.tools.clock()
                self._parts.history.note(name, one.place.settled, one.memory.state, now)
        if engine is None or engine.busy:
            return
        self._parts.witness.forget(slot)
        if not engine.failure and engine.entry.phase is Phase.IDLE:
            self._desk.keeper.rotten.discard(slot)
        self._untidy = True

    def _complain(self, error: AgentError) -> None:
        self._parts.voice.complain(error.code, error.what)

    # the clock

    def _look(self) -> None:
        self._parts.notifier.look()
        self._parts.session.look()
        if not self._parts.proof.look():
            self.stop()
        self._obey()
        if monotonic_s() >= self._decide_at:
            self._decide()
        if self._parts.witness.look():
            self._decide_at, self._dirty = 0.0, True
        self._parts.refresher.look(self._desk.wants)
        self._parts.standby.look(self._desk.facts, is_reference=self._desk.is_reference)
        self._parts.voice.count(self._desk.tools.runtime, self._parts.teller.step_of)
        self._parts.voice.look()
        if self._dirty or self._parts.voice.is_overdue:
            self._dirty = not self._parts.teller.report()

    def _obey(self) -> None:
        """Carry out what a person at the device asks for."""
        directory = self._desk.tools.dir
        for wish in wishes.take(directory):
            try:
                what, error = self._desk.roll_back(wish.slot, wish.hours), None
            except AgentError as why:
                what, error = why.what, why
            log.info("MF_WISH slot=%s %s", wish.slot, what)
            try:
                wishes.answer(directory, wish, error, what)
            except RetryableError as why:
                self._complain(why)

    def _decide(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._hear(message)
        if self._untidy:  # first: what is wanted next may need the room
            self._untidy = not self._desk.sweep()
        self._desk.decide()
        self._ask_for_metadata()
        pause = 5.0 if self._waiting else self._desk.pause_s()
        self._decide_at = monotonic_s() + pause
        self._dirty = True

    def _ask_for_metadata(self) -> None:
        seen = self._desk.door.load().seen
        if seen and not self._desk.lacks_metadata:
            self._parts.refresher.satisfied()
            return
        needs = (
            {slot: one.detail for slot, one in self._desk.answers.items()},
            dict(self._desk.inbox.held()),
        )
        anew, self._needs = needs != self._needs, needs
        self._parts.refresher.need(self._desk.wants, anew=anew)
