"""What reports and telemetry say, from plain data; always something a server can read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.report.chain import Place
from modelfleet_manifests.document import cap_of, read, write
from modelfleet_manifests.errors import SizeError
from modelfleet_manifests.header import Minimum
from modelfleet_manifests.profiles import Facts, write_facts
from modelfleet_manifests.report import (
    Held,
    Metadata,
    Report,
    SlotReport,
    SlotTelemetry,
    Telemetry,
)

# A payload grows by a third in its envelope; signature and names take the rest.
MAX_PAYLOAD = cap_of("report") * 3 // 4 - 512


@dataclass(frozen=True, slots=True)
class Situation:
    """What a report says, as plain data.

    Attributes:
        at: The device's clock, Unix ms.
        nonce: Of the assignment that is held (`Inbox.nonce`).
        documents: What is held (`Inbox.held`).
        slots: By slot.
        metadata: Versions seen (`TrustState.minimum`).
        facts: What the device is.
        errors: Codes since the last report.
        challenge: What the next assignment has to repeat (`Inbox.challenge`).
    """

    at: int
    nonce: str
    documents: Mapping[str, Held]
    slots: Mapping[str, SlotReport]
    metadata: Minimum | Metadata
    facts: Facts
    errors: Sequence[str] = ()
    challenge: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a telemetry batch says: counted between `since` and `until`, Unix ms."""

    since: int
    until: int
    memory_kb: int
    slots: Mapping[str, Sequence[SlotTelemetry]]


class _Measure(NamedTuple):
    """How much of what may be long goes into a report."""

    text: int
    errors: int
    begun: int


# From the most that the grammar allows to what always fits into an envelope.
_MEASURES = (
    _Measure(text=200, errors=32, begun=64),
    _Measure(text=200, errors=32, begun=16),
    _Measure(text=100, errors=16, begun=8),
    _Measure(text=50, errors=4, begun=2),
    _Measure(text=20, errors=1, begun=0),
)


def make_report(
    situation: Situation, enrolment: Enrolment, place: Place, boot: str
) -> Report:
    """Return the report at this place of the chain.

    Texts, errors and steps begun are cut until the report fits into an envelope; the newest
    errors and steps stay.

    Raises:
        FormatError: A value is out of range, such as a slot's name.
        SizeError: Even cut it does not fit.
    """
    report = Report(
        fleet=enrolment.fleet,
        device=enrolment.device,
        enrolment=enrolment.enrolment,
        incarnation=enrolment.incarnation,
        seq=place.seq,
        prev=place.prev,
        boot=boot,
        at=situation.at,
        nonce=situation.nonce,
        documents=dict(situation.documents),
        slots=dict(situation.slots),
        metadata=Metadata(
            root=situation.metadata.root,
            timestamp=situation.metadata.timestamp,
            snapshot=situation.metadata.snapshot,
            targets=situation.metadata.targets,
        ),
        facts=write_facts(situation.facts),
        errors=list(situation.errors),
        challenge=situation.challenge or UNSET,
    )
    payloads = (write(_cut(report, measure)) for measure in _MEASURES)
    payload = next((one for one in payloads if len(one) <= MAX_PAYLOAD), None)
    if payload is None:
        raise SizeError("report", f"more than {MAX_PAYLOAD} bytes, even cut")
    return read(payload, Report, "report", cap=cap_of("report"))


def make_telemetry(batch: Batch, enrolment: Enrolment, place: Place) -> Telemetry:
    """Return the telemetry batch with the next number.

    Raises:
        FormatError: A value is out of range.
    """
    telemetry = Telemetry(
        fleet=enrolment.fleet,
        device=enrolment.device,
        enrolment=enrolment.enrolment,
        incarnation=enrolment.incarnation,
        seq=place.batch,
        since=batch.since,
        until=batch.until,
        memory_kb=batch.memory_kb,
        slots={name: list(parts) for name, parts in batch.slots.items()},
    )
    return read(write(telemetry), Telemetry, "telemetry", cap=cap_of("telemetry"))


def _cut(report: Report, measure: _Measure) -> Report:
    text, errors, begun = measure
    slots = {
        name: msgspec.structs.replace(
            slot,
            detail=slot.detail[:text],
            begun=slot.begun[max(len(slot.begun) - begun, 0) :],
        )
        for name, slot in report.slots.items()
    }
    kept = [one[:text] for one in report.errors[-errors:]]
    return msgspec.structs.replace(report, slots=slots, errors=kept)
