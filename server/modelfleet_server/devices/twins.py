"""Twins: what devices report, verified, stored and acknowledged batch by batch."""

import json
import logging
from collections.abc import Callable

from msgspec import UNSET
from sqlmodel import Session, col, delete

from modelfleet_manifests.assignment import Assignment, ByGroup
from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import write
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.header import Order
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.profiles import matching_profiles, read_facts
from modelfleet_manifests.report import Report, SlotReport, open_report
from modelfleet_manifests.topics import device_topic, parse_topic
from modelfleet_server.audit import service as audit
from modelfleet_server.bridge.message import Message
from modelfleet_server.bridge.service import reply
from modelfleet_server.devices.assignments import answer_challenge
from modelfleet_server.devices.domain import Arrival, ChainHead, DeviceState, classify
from modelfleet_server.devices.groups import settle_departures
from modelfleet_server.devices.tables import Device, HeldDocument, SlotState, StoredReport
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.errors import AppError
from modelfleet_server.trust import director as documents
from modelfleet_server.trust.director import Director

log = logging.getLogger(__name__)

RESEND_AFTER_MS = 60_000


class TwinKeeper:
    """Handles `report` and `presence` messages; idempotent by device, incarnation, number.

    Args:
        director: Signs for devices that lost what they held.
        clock: Returns Unix milliseconds.
    """

    def __init__(self, director: Director, clock: Callable[[], int] = now_ms) -> None:
        self._director = director
        self._clock = clock
        self._resent: dict[str, int] = {}

    def take_reports(self, session: Session, messages: list[Message]) -> None:
        """Take in a batch of reports; acknowledge each device once, after the commit."""
        now = self._clock()
        for message in messages:
            device = self._device(session, message)
            if device is not None:
                self._take(session, device, message, now)

    def take_presence(self, session: Session, messages: list[Message]) -> None:
        """Note who says that they are there: a hint, never evidence."""
        now = self._clock()
        for message in messages:
            device = self._device(session, message)
            if device is None or not message.payload:
                continue
            device.online = message.payload == b'{"online":true}'
            if not message.retained and device.online:
                device.heard_ms = now
            session.add(device)

    def _device(self, session: Session, message: Message) -> Device | None:
        device = session.get(Device, message.device) if message.device else None
        if device is None or device.state is not DeviceState.ENROLLED:
            log.warning("%s: no such device is enrolled; dropped", message.topic)
            return None
        return device

    def _take(self, session: Session, device: Device, message: Message, now: int) -> None:
        try:
            report = open_report(message.payload, device.id, [PublicKey(device.report_key)])
        except ManifestError as error:
            log.warning("report of %s refused: %s", device.id, error)
            return
        if report.enrolment != device.enrolment:
            log.warning("report of %s is of another enrolment; dropped", device.id)
            return
        head = ChainHead(device.incarnation, device.seq, device.chain)
        arrival = classify(head, report.incarnation, report.seq, report.prev)
        if arrival is Arrival.FORK:
            device.forks += 1
            log.warning("the report chain of %s forked at %d", device.id, report.seq)
            audit.record(
                session, "system:twins", "device.forked", device.id, {"seq": report.seq},
                at_ms=now,
            )  # fmt: skip
        if arrival in {Arrival.NEXT, Arrival.GAP, Arrival.FORK}:
            self._store(session, device, report, message.payload, arrival, now)
        if arrival is not Arrival.FOREIGN:
            _acknowledge(session, device)

    def _store(
        self,
        session: Session,
        device: Device,
        report: Report,
        envelope: bytes,
        arrival: Arrival,
        now: int,
    ) -> None:
        digest = sha256(write(report))
        session.add(
            StoredReport(
                device=device.id, incarnation=report.incarnation, seq=report.seq,
                received_ms=now, arrival=arrival, digest=digest, envelope=envelope,
            )
        )  # fmt: skip
        device.seq, device.chain = report.seq, digest
        device.reported_ms = device.heard_ms = now
        _note_facts(session, device, report, now)
        device.facts_json = json.dumps(report.facts)
        device.profile = matching_profiles(read_facts(report.facts))[0]
        device.errors_json = json.dumps(report.errors)
        session.add(device)
        self._keep_documents(session, device, report, now)
        self._answer(session, device, report, now)
        _keep_slots(session, device, report, now)
        session.flush()

    def _keep_documents(
        self, session: Session, device: Device, report: Report, now: int
    ) -> None:
        session.exec(delete(HeldDocument).where(col(HeldDocument.device) == device.id))
        for topic, held in report.documents.items():
            session.add(
                HeldDocument(
                    device=device.id, topic=topic, epoch=held.epoch,
                    counter=held.counter, digest=held.digest,
                )
            )  # fmt: skip
            address = parse_topic(topic)
            if address is None:
                continue
            if address.kind == "assignment":
                settle_departures(session, device, held.epoch, held.counter)
            self._repeat(session, topic, Order(held.epoch, held.counter), now)

    def _answer(self, session: Session, device: Device, report: Report, now: int) -> None:
        """Answer a device that lost its memory, at most once a minute."""
        if report.challenge is UNSET:
            return
        place = f"{device.id} challenge"
        if now - self._resent.get(place, 0) >= RESEND_AFTER_MS:
            self._resent[place] = now
            challenge = str(report.challenge)
            try:
                answer_challenge(session, self._director, device, challenge, now_ms=now)
            except AppError as error:  # the report counts all the same; it asks again
                log.warning("%s is not answered: %s", device.id, error)

    def _repeat(self, session: Session, topic: str, held: Order, now: int) -> None:
        """Publish again what a device missed, at most once a minute per topic."""
        newest = documents.current(session, topic)
        if (
            newest is None
            or held >= newest.order
            or now - newest.issued_ms < RESEND_AFTER_MS
        ):
            return
        if now - self._resent.get(topic, 0) >= RESEND_AFTER_MS:
            self._resent[topic] = now
            documents.resend(session, topic)


def _note_facts(session: Session, device: Device, report: Report, now: int) -> None:
    """Record that a device is another one than it said before: its variant may change."""
    before = json.loads(device.facts_json)
    changed = {
        name: {"before": before.get(name), "after": value}
        for name, value in report.facts.items()
        if name != "disk_free_mb" and name in before and before[name] != value
    }
    if not changed:
        return
    profile = matching_profiles(read_facts(report.facts))[0]
    audit.record(
        session, "system:twins", "device.changed", device.id,
        {"facts": changed, "profile": {"before": device.profile, "after": profile}},
        at_ms=now,
    )  # fmt: skip


def _acknowledge(session: Session, device: Device) -> None:
    reply(
        session,
        device_topic(device.id, "ack"),
        canonical({"incarnation": device.incarnation, "seq": device.seq}),
    )


def _keep_slots(session: Session, device: Device, report: Report, now: int) -> None:
    governors = _governors(session, device)
    session.exec(
        delete(SlotState).where(
            col(SlotState.device) == device.id, col(SlotState.slot).not_in(report.slots)
        )
    )
    for slot, said in report.slots.items():
        row = session.get(SlotState, (device.id, slot))
        group = governors.get(slot)
        held = report.documents.get(f"mf/v1/g/{group}/deployment") if group else None
        if row is None:
            row = SlotState(
                device=device.id, slot=slot, phase="", action="", reason="", detail="",
                reported_ms=now, changed_ms=now,
            )  # fmt: skip
        _copy(row, said, now)
        row.group_id = group
        row.epoch, row.counter = (held.epoch, held.counter) if held else (0, 0)
        session.add(row)


def _governors(session: Session, device: Device) -> dict[str, str]:
    issued = documents.current(session, device_topic(device.id, "assignment"))
    body = issued.document if issued else None
    if not isinstance(body, Assignment):
        return {}
    return {slot: one.group for slot, one in body.slots.items() if isinstance(one, ByGroup)}


def _copy(row: SlotState, said: SlotReport, now: int) -> None:
    before = (row.phase, row.reason, row.release, row.digest)
    row.phase, row.action = said.phase, said.action
    row.reason, row.detail = said.reason, said.detail
    row.step, row.wanted = said.step or None, said.wanted or None
    row.begun_json = json.dumps(said.begun)
    running = said.running or None
    row.release = running.release if running else None
    row.model = running.model if running else None
    row.version = running.version if running else None
    row.variant = running.variant if running else None
    row.digest = running.digest if running else None
    row.intact = running.intact if running else True
    row.failures, row.fetched_bytes, row.method = said.failures, said.bytes, said.method
    row.reported_ms = now
    if before != (row.phase, row.reason, row.release, row.digest):
        row.changed_ms = now
