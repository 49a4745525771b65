"""What the device says: reports on change and every interval, telemetry in batches.

Everything is signed, numbered and on disk before it is sent, and sent again until the
server acknowledged it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from modelfleet_agent.clock import Clock, monotonic_s
from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.link.mqtt import Session
from modelfleet_agent.report.outbox import Ack, Batch, Outbox, Sealed, Situation
from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.settings import AgentSettings
from modelfleet_agent.supervisor.complaints import Complaints, words
from modelfleet_agent.supervisor.counting import Counting, StepOf
from modelfleet_manifests.report import SlotTelemetry

Counted = Mapping[str, Sequence[SlotTelemetry]]

log = logging.getLogger(__name__)

GAP_S = 0.1  # several changes within it are one report
DISK_S = 5.0  # until a disk that took no report is tried again
AGAIN_S = 30.0  # without an acknowledgement
WINDOW = 64  # so many of a kind are on their way at once: weeks do not come in one burst
SILENT_BATCHES = 6  # of so many empty batches one is sent, for the memory it carries


class Essence(NamedTuple):
    """What makes a new report worth making.

    Attributes:
        whole: All that it would say, without what always changes.
        core: What serves and what is wanted: worth a report even where many wait.
    """

    whole: object
    core: object


class Voice:
    """Composes, keeps and sends. Used by the supervisor's thread, but for `complain`."""

    def __init__(
        self, settings: AgentSettings, outbox: Outbox, session: Session, clock: Clock
    ) -> None:
        """Nothing is said yet."""
        self._settings = settings
        self._outbox = outbox
        self._session = session
        self._clock = clock
        self._errors = Complaints()
        self._counting = Counting()
        self._counted_since = clock()
        self._said = self._said_core = b""
        self._said_at = float("-inf")
        self._sent_at = float("-inf")
        self._batch_at = monotonic_s() + settings.telemetry_interval_s
        self._silent = 0
        self._flying: dict[int, Sealed] = {}
        self._sent_to = 0  # number of the last report that is on its way

    def complain(self, code: str, why: str) -> None:
        """Have a code in the next report; from any thread."""
        self._errors.add(code, why)

    @property
    def is_early(self) -> bool:
        """The last report was just made: what changes meanwhile goes into the next."""
        return monotonic_s() - self._said_at < GAP_S

    @property
    def is_overdue(self) -> bool:
        """It is time for a report though nothing changed.

        Not while nobody listens: the same again would only fill the disk.
        """
        since = monotonic_s() - self._said_at
        return self._session.connected and since >= self._settings.report_interval_s

    def is_due(self, essence: Essence) -> bool:
        """Say whether a report is to be made: something changed, or it is time.

        Errors alone wait for the next report while nobody listens.
        """
        if self._outbox.is_full and not self._session.connected:
            return msgspec.json.encode(essence.core) != self._said_core
        changed = msgspec.json.encode(essence.whole) != self._said
        tells = self._session.connected and bool(self._errors)
        return changed or self.is_overdue or tells

    def report(self, situation: Situation, essence: Essence) -> bool:
        """Sign, keep and send a report; False where the disk does not take it now."""
        told = self._errors.peek()
        self._said_at = monotonic_s()
        try:
            self._outbox.add_report(replace(situation, errors=words(told)))
        except RetryableError as error:
            log.warning("MF_DISK the report cannot be kept: %s", error)
            self._said_at += DISK_S
            return False
        self._errors.forget(told)
        self._said = msgspec.json.encode(essence.whole)
        self._said_core = msgspec.json.encode(essence.core)
        self._pump()
        return True

    def count(self, runtime: RuntimeClient, step_of: StepOf) -> None:
        """Make a batch of telemetry where it is time."""
        if monotonic_s() < self._batch_at:
            return
        self._batch_at = monotonic_s() + self._settings.telemetry_interval_s
        if runtime.ready is None:
            return
        try:
            counters = runtime.statistics()
            slots = self._counting.take(counters, step_of)
            if self._worth(slots):
                self._keep_batch(counters.rss_kib, slots)
        except AgentError as error:
            log.warning("MF_TELEMETRY %s", error)

    def _worth(self, slots: Counted) -> bool:
        self._silent = 0 if slots else self._silent + 1
        return bool(slots) or self._silent % SILENT_BATCHES == 1

    def _keep_batch(self, memory_kb: int, slots: Counted) -> None:
        now = self._clock()
        since = min(self._counted_since, now)  # the clock may have been set back
        batch = Batch(since=since, until=now, memory_kb=memory_kb, slots=slots)
        self._counted_since = now
        self._outbox.add_telemetry(batch)
        self._pump()

    def acknowledge(self, ack: Ack) -> None:
        """Forget what the server committed."""
        self._outbox.acknowledge(ack)
        self._pump()

    def delivered(self, number: int) -> None:
        """Forget a batch of telemetry that the broker took."""
        sealed = self._flying.pop(number, None)
        if sealed:
            self._outbox.forget(sealed)
            self._pump()

    def repeat(self) -> None:
        """Send again all that waits, as it is taken: after a reconnect."""
        self._flying.clear()
        self._sent_to = 0
        if dropped := self._outbox.telling():
            what = f"{dropped:,} batches went for want of room (outbox.telemetry_kb)"
            self.complain("E_TELEMETRY_DROPPED", what)
        self._pump()

    def look(self) -> None:
        """Send reports again that nobody acknowledged for long."""
        if not self._session.connected:
            return
        if monotonic_s() - self._sent_at >= AGAIN_S:
            self._sent_to = 0
        self._pump()

    def _pump(self) -> None:
        """Send what waits, in its order, while not too much is on its way."""
        if self._session.connected:
            self._pump_reports()
            self._pump_telemetry()

    def _pump_reports(self) -> None:
        for sealed in self._outbox.pending()[:WINDOW]:
            if sealed.seq <= self._sent_to:
                continue
            if self._send(sealed) is None:
                return
            self._sent_to, self._sent_at = sealed.seq, monotonic_s()

    def _pump_telemetry(self) -> None:
        flying = {sealed.seq for sealed in self._flying.values()}
        for sealed in self._outbox.pending_telemetry():
            if len(self._flying) >= WINDOW:
                return
            if sealed.seq in flying:
                continue
            number = self._send(sealed)
            if number is None:
                return
            self._flying[number] = sealed

    def _send(self, sealed: Sealed) -> int | None:
        try:
            return self._session.publish(sealed.kind, sealed.read())
        except OSError as error:  # the medium fails: the others are still told
            log.warning("MF_DISK %s cannot be read: %s", sealed.path, error)
            return None
