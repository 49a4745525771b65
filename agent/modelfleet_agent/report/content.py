"""What reports and telemetry say, from plain data; always something a server can read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.report.chain import Place
from modelfleet_manifests.document import cap_of, read, write
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

MAX_TEXT = 200
MAX_ERRORS = 32
MAX_BEGUN = 64
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
    """

    at: int
    nonce: str
    documents: Mapping[str, Held]
    slots: Mapping[str, SlotReport]
    metadata: Minimum | Metadata
    facts: Facts
    errors: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """What a telemetry batch says: counted between `since` and `until`, Unix ms."""

    since: int
    until: int
    memory_kb: int
    slots: Mapping[str, Sequence[SlotTelemetry]]


def make_report(
    situation: Situation, enrolment: Enrolment, place: Place, boot: str
) -> Report:
    """Return the report at this place of the chain; what does not fit is cut.

    Texts are cut to 200 characters, errors to the last 32, and the steps begun to the last
    ones that fit into an envelope.

    Raises:
        FormatError: A value is out of range, such as a slot's name.
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
        slots={name: _cut(slot, MAX_BEGUN) for name, slot in situation.slots.items()},
        metadata=Metadata(
            root=situation.metadata.root,
            timestamp=situation.metadata.timestamp,
            snapshot=situation.metadata.snapshot,
            targets=situation.metadata.targets,
        ),
        facts=write_facts(situation.facts),
        errors=[text[:MAX_TEXT] for text in situation.errors[-MAX_ERRORS:]],
    )
    begun = MAX_BEGUN
    while len(write(report)) > MAX_PAYLOAD and begun:
        begun //= 2
        slots = {name: _cut(slot, begun) for name, slot in report.slots.items()}
        report = msgspec.structs.replace(report, slots=slots)
    return read(write(report), Report, "report", cap=cap_of("report"))


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


def _cut(slot: SlotReport, begun: int) -> SlotReport:
    return msgspec.structs.replace(
        slot,
        detail=slot.detail[:MAX_TEXT],
        begun=slot.begun[len(slot.begun) - begun :]
        if len(slot.begun) > begun
        else slot.begun,
    )
