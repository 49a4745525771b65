"""What the server makes of reports: verified, numbered, chained, acknowledged, kept."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from sqlmodel import select
from tests.support.devices import SimDevice
from tests.support.lines import make_line, operate, publish_releases, target
from tests.support.server import ServerUnderTest
from tests.support.waiting import eventually

from modelfleet_manifests.assignment import Assignment, ByGroup
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.topics import device_topic
from modelfleet_server.bridge.message import Message
from modelfleet_server.bridge.tables import Outbox
from modelfleet_server.devices.enrolment import retire
from modelfleet_server.devices.tables import Device, HeldDocument, SlotState, StoredReport
from modelfleet_server.devices.twins import RESEND_AFTER_MS, TwinKeeper
from modelfleet_server.kit.access import Role, system
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust.director import Director


@pytest.fixture
def device(server: ServerUnderTest) -> SimDevice:
    publish_releases(server, "1.0.0", "1.1.0")
    (one,) = make_line(server, 1)
    operate(server, "deployments", **target("1.0.0"))
    one.follow()
    return one


def row(device: SimDevice) -> Device:
    with device.server.database.read() as session:
        found = session.get(Device, device.id)
    assert found is not None
    return found


def reports(device: SimDevice) -> list[StoredReport]:
    with device.server.database.read() as session:
        found = select(StoredReport).where(StoredReport.device == device.id)
        return list(session.exec(found.order_by("seq")))


def hand_over(device: SimDevice, payload: bytes) -> None:
    with device.server.database.write() as session:
        message = Message(device_topic(device.id, "report"), payload, device.id)
        TwinKeeper(device.server.parts.get(Director)).take_reports(session, [message])


def test_a_report_is_kept_as_it_was_signed_and_fills_the_twin(device: SimDevice) -> None:
    envelope = device.report()
    assert reports(device)[-1].envelope == envelope
    shown = device.server.client(Role.VIEWER).get(f"/api/v1/devices/{device.id}").json()
    (slot,) = shown["slots"]
    assert (slot["version"], slot["phase"], slot["intact"]) == ("1.0.0", "idle", True)
    with device.server.database.read() as session:
        held = session.exec(select(HeldDocument.topic)).all()
    assert sorted(held) == sorted(device.held)


def test_a_repeated_report_changes_nothing(device: SimDevice) -> None:
    envelope = device.report()
    before = row(device)
    hand_over(device, envelope)
    hand_over(device, envelope)
    assert row(device) == before
    assert [one.seq for one in reports(device)] == [1, 2]


def test_a_gap_is_taken_in_and_noted(device: SimDevice) -> None:
    device.seq += 3
    device.report()
    assert [(one.seq, one.arrival) for one in reports(device)] == [(1, "next"), (5, "gap")]


def test_a_fork_is_a_clone_and_goes_to_the_audit_log(device: SimDevice) -> None:
    device.prev = "f" * 64
    device.report()
    assert reports(device)[-1].arrival == "fork"
    assert row(device).forks == 1
    audit = device.server.client(Role.ADMIN).get("/api/v1/audit", params={"limit": 500})
    actions = [(one["action"], one["subject"]) for one in audit.json()["items"]]
    assert ("device.forked", device.id) in actions


def test_a_device_that_became_another_one_is_noted_in_the_audit_log(
    device: SimDevice,
) -> None:
    def noted() -> list[dict[str, Any]]:
        client = device.server.client(Role.ADMIN)
        rows = client.get("/api/v1/audit", params={"limit": 500}).json()["items"]
        return [one["detail"] for one in rows if one["action"] == "device.changed"]

    device.report()
    before = noted()
    device.facts = msgspec.structs.replace(device.facts, disk_free_mb=7)
    device.report()
    assert noted() == before  # free space always changes
    cpu = [*device.facts.cpu, "u8s8_saturates"]
    was = row(device).profile
    device.facts = msgspec.structs.replace(device.facts, cpu=cpu)
    device.report()
    change = next(one for one in noted() if one not in before)
    assert change["facts"]["cpu"]["after"] == cpu
    assert change["profile"]["before"] == was


def test_what_another_key_signed_is_dropped(device: SimDevice) -> None:
    before = row(device)
    device.key = PrivateKey.generate()
    device.report()
    assert row(device) == before


def test_a_report_by_the_topic_of_another_device_is_dropped(device: SimDevice) -> None:
    other = SimDevice.enrol(device.server, "cam-9")
    hand_over(other, device.report())
    assert row(other).seq == 0


def test_an_earlier_enrolment_says_nothing_of_the_present_one(device: SimDevice) -> None:
    with device.server.database.write() as session:
        retire(session, device.id, system("test"), now_ms=now_ms())
    device.report()
    again = SimDevice.enrol(device.server, device.id, labels={"line": "a"})
    assert again.incarnation == 2
    device.report()
    assert row(again).seq == 0
    again.follow()
    assert (row(again).seq, row(again).incarnation) == (1, 2)
    # the evidence of the first life is still there
    assert {one.incarnation for one in reports(again)} == {1, 2}


def test_a_retired_device_leaves_no_state_and_no_retained_topic(device: SimDevice) -> None:
    client = device.server.client(Role.OPERATOR)
    assert client.post(f"/api/v1/devices/{device.id}/retire").is_success
    with device.server.database.read() as session:
        topic = device_topic(device.id, "assignment")
        outbox = session.get(Outbox, topic)
        states = session.exec(select(SlotState)).all()
    assert outbox is not None
    assert (outbox.payload, states) == (b"", [])


def test_a_slot_that_is_no_longer_reported_is_forgotten(device: SimDevice) -> None:
    device.slots["extra"] = device.slots["digits"]
    device.report()
    del device.slots["extra"]
    device.report()
    with device.server.database.read() as session:
        assert session.exec(select(SlotState.slot)).all() == ["digits"]


def test_whoever_reports_an_old_document_is_sent_the_newest_again(
    device: SimDevice,
) -> None:
    operate(device.server, "rollbacks", **target("1.1.0"))
    (topic,) = [one for one in device.held if "/g/" in one]

    def revision() -> int:
        with device.server.database.read() as session:
            found = session.get(Outbox, topic)
        assert found is not None
        return found.revision

    before = revision()
    device.report()
    assert revision() == before  # it was published just now: give it a minute
    device.clock = lambda: now_ms() + RESEND_AFTER_MS
    device.report()
    assert revision() > before


def test_through_the_broker_a_report_is_acknowledged_after_the_commit(
    whole_server: ServerUnderTest,
) -> None:
    device = SimDevice.enrol(whole_server, "cam-0")
    with device.connect() as peer:
        device.follow()
        heard = eventually(
            lambda: peer.payloads(device_topic("cam-0", "ack")), "an acknowledgement"
        )
        assert json.loads(heard[-1]) == {"incarnation": 1, "seq": 1}
        assert row(device).seq == 1
        assert row(device).chain == device.prev


def test_a_device_that_lost_its_memory_gets_an_assignment_made_for_it_once(
    device: SimDevice,
) -> None:
    device.hear()
    before = device.documents.assignment
    device.challenge = new_id()
    device.report()
    device.hear()
    answer = device.documents.assignment
    assert isinstance(before, Assignment)
    assert isinstance(answer, Assignment)
    assert (before.echo, answer.echo) == (UNSET, device.challenge)
    assert answer.header.order > before.header.order
    (governor,) = answer.slots.values()
    assert isinstance(governor, ByGroup)
    newest = device.documents.deployments[governor.group].header.order
    assert governor.since.order == newest  # no older deployment counts any more
    device.report()
    device.hear()
    assert device.documents.assignment == answer  # the same question is answered once
