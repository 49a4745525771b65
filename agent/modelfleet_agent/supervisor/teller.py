"""The teller: what is known of each slot, as reports and as files for people."""

import logging
import os
from pathlib import Path

import msgspec

from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.link.mqtt import Session
from modelfleet_agent.report.outbox import Situation
from modelfleet_agent.supervisor.desk import Desk
from modelfleet_agent.supervisor.slots import View, report_of, status_of
from modelfleet_agent.supervisor.status import (
    Endpoint,
    Status,
    write_endpoint,
    write_status,
)
from modelfleet_agent.supervisor.voice import Essence, Voice
from modelfleet_agent.supervisor.witness import Witness
from modelfleet_agent.update.state import SlotState
from modelfleet_agent.update.work import Entry
from modelfleet_manifests.assignment import MAX_SLOTS
from modelfleet_manifests.profiles import Facts, matching_profiles
from modelfleet_manifests.report import SlotReport
from modelfleet_manifests.wanted import Action, Reason, Wanted

log = logging.getLogger(__name__)

UNDECIDED = Wanted(Action.KEEP, Reason.NO_ASSIGNMENT, "the agent is starting")


class Teller:
    """Composes reports and status. Used by the supervisor's thread."""

    def __init__(
        self,
        directory: Path,
        enrolment: Enrolment,
        desk: Desk,
        witness: Witness,
        voice: Voice,
        session: Session,
    ) -> None:
        """Nothing is told yet."""
        self._dir = directory
        self._enrolment = enrolment
        self._desk = desk
        self._witness = witness
        self._voice = voice
        self._session = session
        self._endpoint: Endpoint | None = None
        self._status: Status | None = None

    def report(self) -> bool:
        """Make a report where one is due; False where it should be made a moment later."""
        facts = self._desk.facts
        if facts is None:
            return False
        if self._voice.is_early:
            return False
        if not self._voice.is_due(self._essence(facts)):
            self.tell_status()
            return True
        self._witness.read()
        slots = self._slots()
        situation = Situation(
            at=self._desk.tools.clock(),
            nonce=self._desk.inbox.nonce,
            documents=self._desk.inbox.held(),
            slots=slots,
            metadata=self._desk.door.load().minimum,
            facts=facts,
            challenge=self._desk.inbox.challenge,
        )
        told = self._voice.report(situation, self._essence(facts))
        self.tell_status()
        return told

    def step_of(self, slot: str, key: str) -> str | None:
        """Return the step under which the release `key` serves in `slot`."""
        engine = self._desk.engines.get(slot)
        if engine is None:
            return None
        goal, state = engine.entry.goal, engine.memory.state
        if goal and goal.record.key == key and goal.step:
            return goal.step
        return state.step if state.current and state.current.key == key else None

    def tell_status(self) -> None:
        """Rewrite the file that `modelfleet-agent status` reads."""
        facts = self._desk.facts
        status = Status(
            device=self._enrolment.device,
            fleet=self._enrolment.fleet,
            server=self._enrolment.server,
            pid=os.getpid(),
            at=self._desk.tools.clock(),
            connected=self._session.connected,
            profile=matching_profiles(facts)[0] if facts else "",
            endpoint=self._endpoint or Endpoint(),
            slots={slot: status_of(view) for slot, view in self._views().items()},
        )
        before = self._status
        if before and status == msgspec.structs.replace(before, at=status.at):
            return  # nothing new: spare the disk
        try:
            write_status(self._dir, status)
            self._status = status
        except RetryableError as error:
            log.warning("MF_DISK the status file: %s", error)

    def tell_endpoint(self) -> None:
        """Tell applications where the runtime child listens, where that changed."""
        ready = self._desk.tools.runtime.ready
        if ready is None:
            return
        endpoint = Endpoint(http_port=ready.port, socket=ready.socket)
        if endpoint == self._endpoint:
            return
        try:
            write_endpoint(self._dir, endpoint)
            self._endpoint = endpoint
        except RetryableError as error:
            log.warning("MF_DISK the endpoint file: %s", error)

    def _views(self) -> dict[str, View]:
        ready = self._desk.tools.runtime.ready is not None
        views = {}
        for slot in sorted({*self._desk.engines, *self._desk.answers}):
            engine = self._desk.engines.get(slot)
            views[slot] = View(
                wanted=self._desk.answers.get(slot, UNDECIDED),
                entry=engine.entry if engine else Entry(),
                state=engine.memory.state if engine else SlotState(),
                serving=engine.place.serving if engine and ready else None,
                checked=self._witness.checked.get(slot),
                failure=engine.failure if engine else None,
                rotten=slot in self._desk.keeper.rotten,
            )
        return views

    def _slots(self) -> dict[str, SlotReport]:
        views = list(self._views().items())[:MAX_SLOTS]
        return {slot: report_of(view) for slot, view in views}

    def _essence(self, facts: Facts) -> Essence:
        """Return what makes a new report worth sending."""
        seen = self._desk.door.load().minimum
        steady = msgspec.structs.replace(facts, disk_free_mb=0)
        slots = self._slots()
        core = {
            slot: (one.running or None, one.action, one.wanted or None, one.failures)
            for slot, one in slots.items()
        }
        inbox = self._desk.inbox
        whole = (slots, inbox.held(), inbox.challenge, seen, steady)
        return Essence(whole, core)
