"""Taking telemetry in, and summing it up."""

import json
import logging
from collections.abc import Callable, Sequence

from sqlmodel import Session, col, delete, select

from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.report import LATENCY_BOUNDS_US, Telemetry, open_telemetry
from modelfleet_server.bridge.message import Message
from modelfleet_server.devices.domain import DeviceState
from modelfleet_server.devices.tables import Device
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.telemetry.domain import Counts, add_buckets
from modelfleet_server.telemetry.tables import TelemetryBatch, TelemetryCount

log = logging.getLogger(__name__)

KEEP_MS = 7 * 86_400_000
"""How long counts are kept."""

EMPTY = (0,) * (len(LATENCY_BOUNDS_US) + 1)


class TelemetryTaker:
    """Handles `telemetry` messages; a batch that comes twice counts once.

    Args:
        clock: Returns Unix milliseconds.
    """

    def __init__(self, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock

    def take(self, session: Session, messages: list[Message]) -> None:
        """Take in a batch of messages."""
        now = self._clock()
        for message in messages:
            device = session.get(Device, message.device) if message.device else None
            if device is None or device.state is not DeviceState.ENROLLED:
                continue
            try:
                batch = open_telemetry(
                    message.payload, device.id, [PublicKey(device.report_key)]
                )
            except ManifestError as error:
                log.warning("telemetry of %s refused: %s", device.id, error)
                continue
            if batch.enrolment == device.enrolment and _is_new(session, batch, now):
                _store(session, batch, now)
                device.heard_ms = now
                session.add(device)


def sum_by_device(
    session: Session, slot: str, *, since_ms: int, until_ms: int | None = None
) -> list[Counts]:
    """Return what each release did on each device in a slot, since a moment.

    Args:
        session: Any.
        slot: The slot's name.
        since_ms: Received at or after this, Unix ms.
        until_ms: Received before this, Unix ms; None for now.
    """
    statement = select(TelemetryCount).where(
        TelemetryCount.slot == slot, TelemetryCount.received_ms >= since_ms
    )
    if until_ms is not None:
        statement = statement.where(TelemetryCount.received_ms < until_ms)
    return _sum(session.exec(statement).all())


def sum_of_device(
    session: Session, device: str, *, since_ms: int
) -> dict[str, list[Counts]]:
    """Return what each release did in each slot of one device, since a moment."""
    rows = session.exec(
        select(TelemetryCount).where(
            TelemetryCount.device == device, TelemetryCount.received_ms >= since_ms
        )
    ).all()
    slots = sorted({row.slot for row in rows})
    return {slot: _sum([row for row in rows if row.slot == slot]) for slot in slots}


def sweep(session: Session, *, now: int) -> int:
    """Drop counts that are older than a week; return how many."""
    rows = session.exec(
        delete(TelemetryCount).where(col(TelemetryCount.received_ms) < now - KEEP_MS)
    )
    return int(rows.rowcount)


def _sum(rows: Sequence[TelemetryCount]) -> list[Counts]:
    sums: dict[tuple[str, str], Counts] = {}
    for row in rows:
        key = (row.device, row.release)
        held = sums.get(key) or Counts(row.device, row.release, 0, 0, 0, 0, EMPTY)
        sums[key] = Counts(
            row.device,
            row.release,
            held.requests + row.requests,
            held.errors + row.errors,
            held.labelled + row.labelled,
            held.hits + row.hits,
            add_buckets(held.buckets, json.loads(row.buckets_json)),
        )
    return [sums[key] for key in sorted(sums)]


def _is_new(session: Session, batch: Telemetry, now: int) -> bool:
    held = session.get(TelemetryBatch, batch.device)
    if held is not None and (held.incarnation, held.seq) >= (batch.incarnation, batch.seq):
        return False
    row = held or TelemetryBatch(
        device=batch.device, incarnation=0, seq=0, memory_kb=0, received_ms=now
    )
    row.incarnation, row.seq = batch.incarnation, batch.seq
    row.memory_kb, row.received_ms = batch.memory_kb, now
    session.add(row)
    return True


def _store(session: Session, batch: Telemetry, now: int) -> None:
    for slot, counts in batch.slots.items():
        for one in counts:
            session.add(
                TelemetryCount(
                    device=batch.device,
                    slot=slot,
                    release=one.release,
                    step=one.step or None,
                    since_ms=batch.since,
                    until_ms=batch.until,
                    received_ms=now,
                    requests=one.requests,
                    errors=one.errors,
                    latency_us=one.latency_us,
                    labelled=one.labelled,
                    hits=one.hits,
                    buckets_json=json.dumps(one.buckets),
                )
            )
