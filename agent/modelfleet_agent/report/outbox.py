"""The outbox: what the device said and the server has not acknowledged yet."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from modelfleet_agent import fsio
from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.report.chain import Chain
from modelfleet_agent.report.content import Batch, Situation, make_report, make_telemetry
from modelfleet_agent.settings.outbox import OutboxSettings
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import write
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.report import payload_digest, seal_report

__all__ = ["Ack", "Batch", "Outbox", "Sealed", "Situation", "read_ack"]

REPORT, TELEMETRY = "report", "telemetry"
MAX_ACK = 256
DISK_BLOCK = 512  # what `st_blocks` counts in

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Sealed:
    """A signed envelope that waits: `kind` is `report` or `telemetry`."""

    kind: str
    incarnation: int
    seq: int
    path: Path

    def read(self) -> bytes:
        """Return the envelope."""
        return self.path.read_bytes()


class Ack(msgspec.Struct, frozen=True):
    """All reports of this incarnation up to `seq` are committed."""

    incarnation: Annotated[int, Meta(ge=0)]
    seq: Annotated[int, Meta(ge=0)]


def read_ack(payload: bytes) -> Ack | None:
    """Return what an `ack` message says, or None where it is none."""
    try:
        return msgspec.json.decode(payload[:MAX_ACK], type=Ack)
    except msgspec.MsgspecError:
        return None


class Outbox:
    """Signs, numbers and keeps. Used by one thread.

    Reports are never dropped, and never made one of several: each proves the one before it,
    and the server must be able to check all of them. What bounds them is that few are made:
    a caller that is offline adds one when something changed, not for each tick of a clock
    nor for each error, and beyond the budget (`is_full`) only where what serves changed.
    Telemetry beyond its budget goes, the oldest first, and so it does where a report finds
    no room on the disk.

    Attributes:
        dropped: Batches that went unsent, since `telling` them last.
    """

    def __init__(
        self,
        directory: Path,
        enrolment: Enrolment,
        key: PrivateKey,
        *,
        boot: str,
        budget: OutboxSettings | None = None,
    ) -> None:
        """Find what waits in `directory`/outbox; what is of another incarnation goes.

        Args:
            directory: Of the agent.
            enrolment: Who speaks; another incarnation begins a new chain.
            key: Signs.
            boot: Random id of this run, 32 hexadecimal digits.
            budget: What may wait, in blocks of the disk.
        """
        self._folder = fsio.private_dir(directory / "outbox")
        self._me = enrolment
        self._key = key
        self._boot = boot
        limits = budget or OutboxSettings()
        self._budgets = {
            REPORT: limits.reports_kb << 10,
            TELEMETRY: limits.telemetry_kb << 10,
        }
        self._sizes: dict[Path, int] = {}
        self._totals = {REPORT: 0, TELEMETRY: 0}
        self.dropped = 0
        self._chain = Chain(self._folder, enrolment.incarnation)
        self._waiting: dict[str, list[Sealed]] = {REPORT: [], TELEMETRY: []}
        self._recover()

    def add_report(self, situation: Situation) -> Sealed:
        """Sign the next report and keep it until it is acknowledged; durable on return.

        Raises:
            RetryableError: The disk is in the way; nothing was said.
            FormatError: A value is out of range.
            SizeError: It cannot be cut to fit.
        """
        report = make_report(situation, self._me, self._chain.place, self._boot)
        envelope = seal_report(report, self._key)
        try:
            sealed = self._keep(REPORT, report.seq, envelope)
        except RetryableError as error:
            if error.code != "E_NO_SPACE" or not self._give_way():
                raise
            sealed = self._keep(REPORT, report.seq, envelope)
        self._chain.advance(sha256(write(report)))
        self._add(sealed)
        return sealed

    def add_telemetry(self, batch: Batch) -> Sealed:
        """Sign the next telemetry batch and keep it; beyond the budget the oldest go.

        Raises:
            RetryableError: The disk is in the way; the batch is lost.
            FormatError: A value is out of range.
        """
        telemetry = make_telemetry(batch, self._me, self._chain.place)
        self._chain.count_batch()
        sealed = self._keep(TELEMETRY, telemetry.seq, seal_report(telemetry, self._key))
        self._add(sealed)
        self._trim(self._budgets[TELEMETRY])
        return sealed

    @property
    def is_full(self) -> bool:
        """Reports take their budget: only what matters most adds another one."""
        return self._totals[REPORT] >= self._budgets[REPORT]

    @property
    def takes(self) -> int:
        """Bytes of the disk that everything here takes."""
        return sum(self._totals.values())

    def pending(self) -> list[Sealed]:
        """Return the reports that wait, in their order."""
        return list(self._waiting[REPORT])

    def pending_telemetry(self) -> list[Sealed]:
        """Return the telemetry that waits, oldest first."""
        return list(self._waiting[TELEMETRY])

    def acknowledge(self, ack: Ack) -> int:
        """Forget acknowledged reports; returns how many. Idempotent."""
        place = self._chain.place
        if ack.incarnation != self._me.incarnation:
            return 0
        if self._chain.lost and ack.seq >= place.seq:
            self._chain.skip_to(ack.seq)
        elif ack.seq >= place.seq:
            log.warning("MF_ACK report %d was acknowledged before it was made", ack.seq)
            return 0
        done = [one for one in self._waiting[REPORT] if one.seq <= ack.seq]
        for sealed in done:
            self._forget(sealed)
        return len(done)

    def telling(self) -> int:
        """Return how many batches went unsent since the last call."""
        count, self.dropped = self.dropped, 0
        return count

    def forget(self, sealed: Sealed) -> None:
        """Forget a telemetry batch that the broker took (`mqtt.Delivered`). Idempotent."""
        if sealed.kind == TELEMETRY:
            self._forget(sealed)

    def _forget(self, sealed: Sealed) -> None:
        if sealed in self._waiting[sealed.kind]:
            fsio.remove(sealed.path, durable=False)  # sent twice is no harm
            self._waiting[sealed.kind].remove(sealed)
            self._totals[sealed.kind] -= self._sizes.pop(sealed.path, 0)

    def _add(self, sealed: Sealed) -> None:
        found = sealed.path.stat()
        size = max(found.st_blocks * DISK_BLOCK, found.st_size)
        self._sizes[sealed.path] = size
        self._totals[sealed.kind] += size
        self._waiting[sealed.kind].append(sealed)

    def _keep(self, kind: str, seq: int, envelope: bytes) -> Sealed:
        path = self._folder / f"{kind}-{self._me.incarnation}-{seq}.dsse"
        fsio.write_atomic(path, envelope)
        return Sealed(kind, self._me.incarnation, seq, path)

    def _trim(self, budget: int, *, least: int = 1) -> None:
        waiting = self._waiting[TELEMETRY]
        while self._totals[TELEMETRY] > budget and len(waiting) > least:
            self._forget(waiting[0])
            self.dropped += 1

    def _give_way(self) -> bool:
        """Let the older half of the telemetry go; say whether there was some."""
        before = self._totals[TELEMETRY]
        self._trim(before // 2, least=0)
        return self._totals[TELEMETRY] < before

    def _recover(self) -> None:
        """Find what waits, and take a report into the chain that a power cut left out."""
        for path in self._folder.glob(f"{fsio.TMP}*"):
            fsio.remove(path, durable=False)
        for sealed in sorted(self._find()):
            if sealed.incarnation != self._me.incarnation:
                fsio.remove(sealed.path, durable=False)
                continue
            if sealed.kind == REPORT and sealed.seq >= self._chain.place.seq:
                try:
                    digest = payload_digest(sealed.read(), REPORT)
                except (OSError, ManifestError) as error:
                    log.warning("MF_DAMAGED %s: %s", sealed.path, error)
                    continue
                self._chain.advance(digest, sealed.seq)
            self._add(sealed)

    def _find(self) -> Iterator[Sealed]:
        for path in self._folder.glob("*.dsse"):
            kind, _, numbers = path.stem.partition("-")
            incarnation, _, seq = numbers.partition("-")
            if kind in self._waiting and incarnation.isdecimal() and seq.isdecimal():
                yield Sealed(kind, int(incarnation), int(seq), path)
