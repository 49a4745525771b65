"""The outbox: what the device said and the server has not acknowledged yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelfleet_agent.enrol import Enrolment
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.report import Held, Metadata, SlotReport, SlotTelemetry


@dataclass(frozen=True, slots=True)
class Sealed:
    """A signed envelope that waits: `kind` is `report` or `telemetry`."""

    kind: str
    seq: int
    path: Path

    def read(self) -> bytes:
        """Return the envelope."""
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class Situation:
    """What a report says, as plain data.

    Attributes:
        at: The device's clock, Unix ms.
        nonce: Of the assignment that is held (`Inbox.nonce`).
        documents: What is held (`Inbox.held`).
        slots: By slot.
        metadata: Versions seen.
        facts: What the device is.
        errors: Codes since the last report.
    """

    at: int
    nonce: str
    documents: Mapping[str, Held]
    slots: Mapping[str, SlotReport]
    metadata: Metadata
    facts: Facts
    errors: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """What a telemetry batch says: counted between `since` and `until`, Unix ms."""

    since: int
    until: int
    memory_kb: int
    slots: Mapping[str, Sequence[SlotTelemetry]]


@dataclass(frozen=True, slots=True)
class Ack:
    """All reports of this incarnation up to `seq` are committed."""

    incarnation: int
    seq: int


def read_ack(payload: bytes) -> Ack | None:
    """Return what an `ack` message says, or None where it is none."""
    raise NotImplementedError


class Outbox:
    """Signs, numbers and keeps. Used by one thread."""

    def __init__(
        self,
        directory: Path,
        enrolment: Enrolment,
        key: PrivateKey,
        *,
        boot: str,
        telemetry_budget: int = 4 << 20,
    ) -> None:
        """Find what waits in `directory`/outbox.

        Args:
            directory: Of the agent.
            enrolment: Who speaks; another incarnation begins a new chain.
            key: Signs.
            boot: Random id of this run, 32 hexadecimal digits.
            telemetry_budget: Bytes that waiting telemetry may take; the oldest goes first.
        """
        raise NotImplementedError

    def add_report(self, situation: Situation) -> Sealed:
        """Sign the next report and keep it until it is acknowledged; durable on return.

        Raises:
            RetryableError: The disk is in the way; the chain did not move.
        """
        raise NotImplementedError

    def add_telemetry(self, batch: Batch) -> Sealed:
        """Sign the next telemetry batch and keep it; the oldest are dropped beyond budget."""
        raise NotImplementedError

    def pending(self) -> list[Sealed]:
        """Return the reports that wait, in their order."""
        raise NotImplementedError

    def pending_telemetry(self) -> list[Sealed]:
        """Return the telemetry that waits, oldest first."""
        raise NotImplementedError

    def acknowledge(self, ack: Ack) -> int:
        """Forget acknowledged reports; returns how many. Idempotent."""
        raise NotImplementedError

    def forget(self, sealed: Sealed) -> None:
        """Forget a telemetry batch that the broker took (`mqtt.Delivered`). Idempotent."""
        raise NotImplementedError
