"""Devices at the level of what they sign: no files, no sessions, everything else real.

A `SimDevice` enrols over HTTP, takes the documents that the broker would deliver, verifies
them, asks the real resolver, and answers with reports and telemetry that it signs and
chains. What it sends goes straight to the handlers that the bridge would call, or through
the broker after `connect()`.

    device = SimDevice.enrol(server, "cam-1", labels={"site": "a"})
    device.follow()                     # hear, install what is wanted, report
    device.serve("digits", hits=190)    # telemetry
    device.report(digits=device.describe("digits", phase="fetching"))
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET
from tests.support.mqtt import Peer
from tests.support.server import ServerUnderTest

from modelfleet_manifests.assignment import Assignment, ByGroup
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import NotUnderstood, cap_of, read_directed
from modelfleet_manifests.envelope import unseal
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.profiles import Facts, write_facts
from modelfleet_manifests.release import ReleaseRef, Variant
from modelfleet_manifests.report import (
    FIRST,
    LATENCY_BOUNDS_US,
    Held,
    Metadata,
    Report,
    Running,
    SlotReport,
    SlotTelemetry,
    Telemetry,
    payload_digest,
    seal_report,
)
from modelfleet_manifests.resolve import resolve
from modelfleet_manifests.topics import deployment_topic, device_topic, parse_topic
from modelfleet_manifests.trust import TrustView
from modelfleet_manifests.wanted import Action, Documents, Local, Reason, Wanted
from modelfleet_server.bridge.message import Message
from modelfleet_server.bridge.tables import Outbox
from modelfleet_server.broker.address import Address
from modelfleet_server.devices.domain import proof_message
from modelfleet_server.devices.twins import TwinKeeper
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.ids import new_id
from modelfleet_server.telemetry.service import TelemetryTaker
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.view import read_view

X86 = Facts(arch="x86_64", cpu=["avx2"], runtime="onnxruntime 1.32", agent="0.1.0")
ARM64 = Facts(arch="aarch64", cpu=["asimddp"], soc="Raspberry Pi 5", agent="0.1.0")
JETSON = Facts(arch="aarch64", soc="Jetson Orin Nano", jetson="R36.2", agent="0.1.0")


@dataclass
class SimSlot:
    """What a device knows of one slot; releases are ids, the newest last."""

    release: ReleaseRef | None = None
    variant: Variant | None = None
    ran: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)
    quarantine: set[tuple[str, str]] = field(default_factory=set)
    failures: int = 0
    intact: bool = True

    @property
    def local(self) -> Local:
        """As the resolver wants it."""
        ran = frozenset(self.ran)
        return Local(
            release=self.release.id if self.release else None,
            digest=self.variant.digest if self.variant else None,
            model=self.release.model if self.release else "",
            version=self.release.version if self.release else "",
            ran=tuple(self.ran),
            present=ran,
            proven=ran,
            begun=frozenset(self.begun),
            quarantine=frozenset(self.quarantine),
        )


@dataclass
class SimDevice:
    """An enrolled device.

    Attributes:
        breaks: Ids of releases that fail their self-test here.
        failure: What is reported then.
        clock: Of the server, for what this device sends; Unix ms.
        token: Its bearer token for HTTP.
        challenge: What it asks an assignment to repeat, where it lost its memory.
    """

    server: ServerUnderTest
    id: str
    enrolment: str
    incarnation: int
    key: PrivateKey
    facts: Facts
    clock: Callable[[], int] = now_ms
    breaks: set[str] = field(default_factory=set)
    failure: str = "E_SELF_TEST: output y differs by 0.41"
    slots: dict[str, SimSlot] = field(default_factory=dict)
    documents: Documents = field(default_factory=Documents)
    view: TrustView = field(default_factory=TrustView)
    held: dict[str, Held] = field(default_factory=dict)
    seq: int = 0
    prev: str = FIRST
    batches: int = 0
    challenge: str = ""
    token: str = ""
    boot: str = field(default_factory=new_id)
    peer: Peer | None = None

    @classmethod
    def enrol(
        cls,
        server: ServerUnderTest,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        facts: Facts = X86,
        clock: Callable[[], int] = now_ms,
    ) -> "SimDevice":
        """Claim and enrol a device over HTTP, as an operator and an agent do."""
        wish = {"device": name, "labels": dict(labels or {})}
        claim = server.client(Role.OPERATOR).post("/api/v1/devices/claims", json=wish)
        assert claim.status_code == 201, claim.text
        token, key = claim.json()["token"], PrivateKey.generate()
        answer = server.client().post(
            "/api/v1/enrol",
            json={
                "token": token,
                "public_key": key.public.hex,
                "proof": key.sign(proof_message(token, key.public.hex)).hex(),
                "facts": write_facts(facts),
            },
        )
        assert answer.status_code == 201, answer.text
        told = answer.json()
        one = cls(server, name, told["enrolment"], told["incarnation"], key, facts, clock)
        one.token = told["token"]
        return one

    # what arrives

    def hear(self) -> Documents:
        """Take in the newest metadata and documents; return what it holds of these."""
        with self.server.database.read() as session:
            self.view = read_view(session, now_ms=self.clock())
        self.held = {}
        assignment = self._take(device_topic(self.id, "assignment"))
        deployments: dict[str, Deployment | NotUnderstood] = {}
        if isinstance(assignment, Assignment):
            assert assignment.header.enrolment == self.enrolment
            for governor in assignment.slots.values():
                if isinstance(governor, ByGroup):
                    one = self._take(deployment_topic(governor.group))
                    if one is not None and not isinstance(one, Assignment):
                        deployments[governor.group] = one
        taken = None if isinstance(assignment, Deployment) else assignment
        self.documents = Documents(taken, deployments)
        return self.documents

    def _take(self, topic: str) -> Assignment | Deployment | NotUnderstood | None:
        with self.server.database.read() as session:
            row = session.get(Outbox, topic)
        address = parse_topic(topic)
        if row is None or not row.payload or address is None:
            return None
        kind = address.kind
        director = self.server.parts.get(Director).public
        payload = unseal(row.payload, kind, [director], cap=cap_of(kind))
        model: Any = {"assignment": Assignment, "deployment": Deployment}[kind]
        document: Assignment | Deployment | NotUnderstood
        document = read_directed(payload, model, kind)
        order = document.header.order
        self.held[topic] = Held(
            epoch=order.epoch, counter=order.counter, digest=sha256(payload)
        )
        return document

    def resolve(self) -> dict[str, Wanted]:
        """Ask the resolver with what this device holds and knows."""
        return resolve(
            self.facts,
            self.documents,
            self.view,
            {name: slot.local for name, slot in self.slots.items()},
            self.clock(),
        )

    # what it does

    def follow(self) -> dict[str, Wanted]:
        """Hear, install what is wanted, report; return what is wanted afterwards."""
        self.hear()
        for name, wanted in self.resolve().items():
            slot = self.slots.setdefault(name, SimSlot())
            if wanted.action is Action.INSTALL:
                self._install(slot, wanted)
            elif wanted.action in {Action.REMOVE, Action.STOP}:
                slot.release = slot.variant = None
        self.report()
        return self.resolve()

    def _install(self, slot: SimSlot, wanted: Wanted) -> None:
        assert wanted.release is not None
        assert wanted.variant is not None
        if wanted.release.id in self.breaks:
            slot.quarantine.add((wanted.step or "", wanted.variant.digest))
            slot.failures += 1
            return
        slot.release, slot.variant = wanted.release, wanted.variant
        slot.ran.append(wanted.release.id)
        slot.intact, slot.failures = True, 0
        if wanted.step and wanted.step not in slot.begun:
            slot.begun.append(wanted.step)

    # what it says

    def report(self, **slots: SlotReport) -> bytes:
        """Sign and send a report; `slots` replace what follows from the state."""
        said = {name: self.describe(name) for name in self.resolve()} | slots
        report = Report(
            fleet=self.server.parts.get(Director).fleet,
            device=self.id,
            enrolment=self.enrolment,
            incarnation=self.incarnation,
            seq=self.seq + 1,
            prev=self.prev,
            boot=self.boot,
            at=self.clock(),
            nonce=self._nonce(),
            documents=self.held,
            slots=said,
            metadata=Metadata(**msgspec.to_builtins(self.view.seen)),
            facts=write_facts(self.facts),
            errors=[],
            challenge=self.challenge or UNSET,
        )
        envelope = seal_report(report, self.key)
        self.seq, self.prev = report.seq, payload_digest(envelope, "report")
        self.send("report", envelope)
        return envelope

    def describe(self, name: str, **changes: Any) -> SlotReport:
        """Return what the device would report of a slot, with some fields changed."""
        slot, wanted = self.slots.get(name, SimSlot()), self.resolve()[name]
        failed = next(
            (one for one in wanted.passed if one.reason is Reason.QUARANTINED), None
        )
        release = wanted.release.id if wanted.release else UNSET
        fields: dict[str, Any] = {
            "phase": "idle",
            "action": wanted.action.value,
            # as the agent tells it: what it could not do comes before what it does
            "reason": failed.reason.value if failed else wanted.reason.value,
            "detail": self.failure if failed else wanted.detail[:200],
            "step": (failed.step if failed else wanted.step) or UNSET,
            "wanted": failed.release if failed else release,
            "begun": slot.begun,
            "running": _running(slot),
            "failures": slot.failures,
            "bytes": 0,
            "method": "none",
        }
        return SlotReport(**{**fields, **changes})

    def serve(self, name: str, *, hits: int, labelled: int = 200, errors: int = 0) -> None:
        """Send one batch of telemetry of what runs in a slot."""
        slot = self.slots[name]
        assert slot.release is not None
        self.batches += 1
        buckets = [0] * (len(LATENCY_BOUNDS_US) + 1)
        buckets[6] = labelled
        counts = SlotTelemetry(
            release=slot.release.id,
            step=slot.begun[-1] if slot.begun else UNSET,
            requests=labelled,
            errors=errors,
            latency_us=labelled * 900,
            buckets=buckets,
            labelled=labelled,
            hits=hits,
        )
        batch = Telemetry(
            fleet=self.server.parts.get(Director).fleet,
            device=self.id,
            enrolment=self.enrolment,
            incarnation=self.incarnation,
            seq=self.batches,
            since=self.clock() - 1000,
            until=self.clock(),
            memory_kb=81_000,
            slots={name: [counts]},
        )
        self.send("telemetry", seal_report(batch, self.key))

    def send(self, kind: str, payload: bytes) -> None:
        """Publish by the broker where connected, else hand over as the bridge does."""
        topic = device_topic(self.id, kind)
        if self.peer is not None:
            self.peer.publish(topic, payload)
            return
        taker = (
            TwinKeeper(self.server.parts.get(Director), self.clock).take_reports
            if kind == "report"
            else TelemetryTaker(self.clock).take
        )
        with self.server.database.write() as session:
            taker(session, [Message(topic, payload, self.id)])

    @contextmanager
    def connect(self) -> Iterator[Peer]:
        """Send through the broker from now on, with presence as the agent has it."""
        ends = self.server.server.endpoints
        self.peer = Peer(Address(ends.mqtt_host, ends.mqtt_port), f"mf-{self.id}")
        try:
            self.peer.subscribe(device_topic(self.id, "ack"))
            yield self.peer
        finally:
            self.peer.leave()
            self.peer = None

    def _nonce(self) -> str:
        held = self.documents.assignment
        return held.nonce if isinstance(held, Assignment) else "0" * 32


def _running(slot: SimSlot) -> Running | msgspec.UnsetType:
    if slot.release is None or slot.variant is None:
        return UNSET
    return Running(
        release=slot.release.id,
        model=slot.release.model,
        version=slot.release.version,
        variant=slot.variant.name,
        digest=slot.variant.digest,
        intact=slot.intact,
    )
