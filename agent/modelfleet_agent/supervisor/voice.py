"""What the device says: reports on change and every interval, telemetry in batches.

Everything is signed, numbered and on disk before it is sent, and sent again until the
server acknowledged it.
"""

import logging
import queue
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from modelfleet_agent.clock import Clock, monotonic_s
from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.link.mqtt import Session
from modelfleet_agent.report.outbox import Ack, Batch, Outbox, Sealed, Situation
from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.settings import AgentSettings
from modelfleet_agent.supervisor.counting import Counting, StepOf
from modelfleet_manifests.report import SlotTelemetry

Counted = Mapping[str, Sequence[SlotTelemetry]]

log = logging.getLogger(__name__)

MAX_ERRORS = 32
MAX_TEXT = 200
GAP_S = 0.1  # several changes within it are one report
DISK_S = 5.0  # until a disk that took no report is tried again
AGAIN_S = 30.0  # without an acknowledgement
SILENT_BATCHES = 6  # of so many empty batches one is sent, for the memory it carries


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
        self._errors: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._counting = Counting()
        self._counted_since = clock()
        self._said: bytes = b""
        self._said_at = float("-inf")
        self._sent_at = float("-inf")
        self._batch_at = monotonic_s() + settings.telemetry_interval_s
        self._silent = 0
        self._flying: dict[int, Sealed] = {}

    def complain(self, code: str, why: str) -> None:
        """Have a code in the next report; from any thread."""
        if self._errors.qsize() < MAX_ERRORS:
            self._errors.put(f"{code}: {why}"[:MAX_TEXT])

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

    def is_due(self, essence: object) -> bool:
        """Say whether a report is to be made: something changed, or it is time.

        Args:
            essence: What the report would say, without what always changes.
        """
        changed = msgspec.json.encode(essence) != self._said
        return changed or self.is_overdue or not self._errors.empty()

    def report(self, situation: Situation, essence: object) -> bool:
        """Sign, keep and send a report; False where the disk does not take it now."""
        errors: list[str] = []
        while not self._errors.empty() and len(errors) < MAX_ERRORS:
            errors.append(self._errors.get())
        self._said_at = monotonic_s()
        try:
            sealed = self._outbox.add_report(replace(situation, errors=errors))
        except RetryableError as error:
            log.warning("the report cannot be kept: %s", error)
            for text in errors:
                self._errors.put(text)
            self._said_at += DISK_S
            return False
        self._said = msgspec.json.encode(essence)
        self._send(sealed)
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
            log.warning("telemetry: %s", error)

    def _worth(self, slots: Counted) -> bool:
        self._silent = 0 if slots else self._silent + 1
        return bool(slots) or self._silent % SILENT_BATCHES == 1

    def _keep_batch(self, memory_kb: int, slots: Counted) -> None:
        now = self._clock()
        since = min(self._counted_since, now)  # the clock may have been set back
        batch = Batch(since=since, until=now, memory_kb=memory_kb, slots=slots)
        self._counted_since = now
        self._send(self._outbox.add_telemetry(batch))

    def acknowledge(self, ack: Ack) -> None:
        """Forget what the server committed."""
        self._outbox.acknowledge(ack)

    def delivered(self, number: int) -> None:
        """Forget a batch of telemetry that the broker took."""
        sealed = self._flying.pop(number, None)
        if sealed:
            self._outbox.forget(sealed)

    def repeat(self) -> None:
        """Send again all that waits: after a reconnect."""
        self._flying.clear()
        for sealed in (*self._outbox.pending(), *self._outbox.pending_telemetry()):
            self._send(sealed)

    def look(self) -> None:
        """Send reports again that nobody acknowledged for long."""
        if monotonic_s() - self._sent_at < AGAIN_S or not self._session.connected:
            return
        for sealed in self._outbox.pending():
            self._send(sealed)

    def _send(self, sealed: Sealed) -> None:
        number = self._session.publish(sealed.kind, sealed.read())
        if number is None:
            return
        if sealed.kind == "telemetry":
            self._flying[number] = sealed
        else:
            self._sent_at = monotonic_s()
