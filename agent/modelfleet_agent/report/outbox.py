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
from modelfleet_agent.report.chain import Chain
from modelfleet_agent.report.content import Batch, Situation, make_report, make_telemetry
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import write
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.report import payload_digest, seal_report

__all__ = ["Ack", "Batch", "Outbox", "Sealed", "Situation", "read_ack"]

REPORT, TELEMETRY = "report", "telemetry"
MAX_ACK = 256

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

    Reports are never dropped: a caller that is offline should add one when something
    changed, not for each tick of a clock.
    """

    def __init__(
        self,
        directory: Path,
        enrolment: Enrolment,
        key: PrivateKey,
        *,
        boot: str,
        telemetry_budget: int = 4 << 20,
    ) -> None:
        """Find what waits in `directory`/outbox; what is of another incarnation goes.

        Args:
            directory: Of the agent.
            enrolment: Who speaks; another incarnation begins a new chain.
            key: Signs.
            boot: Random id of this run, 32 hexadecimal digits.
            telemetry_budget: Bytes that waiting telemetry may take; the oldest goes first.
        """
        self._folder = fsio.private_dir(directory / "outbox")
        self._me = enrolment
        self._key = key
        self._boot = boot
        self._budget = telemetry_budget
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
        sealed = self._keep(REPORT, report.seq, seal_report(report, self._key))
        self._chain.advance(sha256(write(report)))
        self._waiting[REPORT].append(sealed)
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
        self._waiting[TELEMETRY].append(sealed)
        self._trim()
        return sealed

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
            log.warning("report %d was acknowledged before it was made", ack.seq)
            return 0
        done = [one for one in self._waiting[REPORT] if one.seq <= ack.seq]
        for sealed in done:
            self._forget(sealed)
        return len(done)

    def forget(self, sealed: Sealed) -> None:
        """Forget a telemetry batch that the broker took (`mqtt.Delivered`). Idempotent."""
        if sealed.kind == TELEMETRY:
            self._forget(sealed)

    def _forget(self, sealed: Sealed) -> None:
        if sealed in self._waiting[sealed.kind]:
            fsio.remove(sealed.path, durable=False)  # sent twice is no harm
            self._waiting[sealed.kind].remove(sealed)

    def _keep(self, kind: str, seq: int, envelope: bytes) -> Sealed:
        path = self._folder / f"{kind}-{self._me.incarnation}-{seq}.dsse"
        fsio.write_atomic(path, envelope)
        return Sealed(kind, self._me.incarnation, seq, path)

    def _trim(self) -> None:
        waiting = self._waiting[TELEMETRY]
        sizes = {sealed.path: sealed.path.stat().st_size for sealed in waiting}
        total = sum(sizes.values())
        while total > self._budget and len(waiting) > 1:
            total -= sizes[waiting[0].path]
            self._forget(waiting[0])

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
                    log.warning("%s is damaged: %s", sealed.path, error)
                    continue
                self._chain.advance(digest, sealed.seq)
            self._waiting[sealed.kind].append(sealed)

    def _find(self) -> Iterator[Sealed]:
        for path in self._folder.glob("*.dsse"):
            kind, _, numbers = path.stem.partition("-")
            incarnation, _, seq = numbers.partition("-")
            if kind in self._waiting and incarnation.isdecimal() and seq.isdecimal():
                yield Sealed(kind, int(incarnation), int(seq), path)
