"""The agent's parts against the real server: each wrote its side from the same words."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlmodel import select
from tests.support.fleet import FleetUnderTest
from tests.support.server import PASSPHRASE, ServerUnderTest

from modelfleet_agent.enrol import Enrolment, enrol, load_enrolment, load_report_key
from modelfleet_agent.errors import UsageError
from modelfleet_agent.link.fetch import Fetcher
from modelfleet_agent.link.inbox import Accepted, Inbox
from modelfleet_agent.store import Store
from modelfleet_agent.trust.door import TrustDoor
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.release import Release, release_ref
from modelfleet_manifests.topics import RECALLS, device_topic
from modelfleet_server.app import Duty
from modelfleet_server.bridge.tables import Outbox
from modelfleet_server.devices.tables import Device
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.trust.approver import open_approver
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.domain import Kind
from modelfleet_server.trust.proposals import Publisher


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    server = ServerUnderTest.start(
        tmp_path_factory.mktemp("home"),
        duties=frozenset({Duty.API, Duty.BRIDGE, Duty.SIGNER}),
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def fleet(server: ServerUnderTest) -> FleetUnderTest:
    home = server.server.settings.home
    director = server.parts.get(Director)
    return FleetUnderTest(
        fleet=director.fleet,
        approver=open_approver(home / "approver.key", PASSPHRASE),
        director=director,
        publisher=Publisher(director.signer),
        approver_path=home / "approver.key",
    )


def claim(server: ServerUnderTest, device: str) -> str:
    answer = server.client(Role.OPERATOR).post(
        "/api/v1/devices/claims", json={"device": device, "labels": {"site": "oslo"}}
    )
    assert answer.status_code == 201, answer.text
    token = answer.json()["token"]
    assert isinstance(token, str)
    return token


@pytest.fixture
def me(
    server: ServerUnderTest, request: pytest.FixtureRequest, tmp_path: Path
) -> Enrolment:
    device = request.node.name.replace("_", "-")[-40:].strip("-")
    return enrol(server.url, claim(server, device), tmp_path, Facts(arch="x86_64"))


def release(server: ServerUnderTest, fleet: FleetUnderTest, version: str) -> Release:
    with server.database.write() as session:
        return fleet.release(session, version, now_ms=now_ms())


def retained(server: ServerUnderTest, topic: str) -> bytes:
    with server.database.read() as session:
        query = select(Outbox).where(Outbox.topic == topic)
        return session.exec(query).one().payload


def test_a_device_enrols(
    me: Enrolment, server: ServerUnderTest, fleet: FleetUnderTest, tmp_path: Path
) -> None:
    assert load_enrolment(tmp_path) == me
    assert me.fleet == fleet.fleet
    with server.database.read() as session:
        device = session.get(Device, me.device)
    assert device is not None
    assert device.enrolment == me.enrolment
    assert device.report_key == load_report_key(tmp_path).public.hex


def test_a_claim_token_that_was_used_is_named(
    server: ServerUnderTest, tmp_path: Path
) -> None:
    token = claim(server, "cam-twice")
    enrol(server.url, token, tmp_path / "one", Facts())
    with pytest.raises(UsageError) as caught:
        enrol(server.url, token, tmp_path / "two", Facts())
    assert "used already" in caught.value.what
    assert caught.value.hint


def test_a_device_verifies_what_the_approver_signed(
    me: Enrolment, server: ServerUnderTest, fleet: FleetUnderTest, tmp_path: Path
) -> None:
    made = release(server, fleet, "1.0.0")
    door = TrustDoor(tmp_path, me)
    door.refresh([release_ref(made)])
    view = door.view(now_ms())
    assert view.releases[release_ref(made).id] == made
    assert view.fresh
    assert view.slots["digits"][0].schema == made.schema.digest


def test_a_device_obeys_a_recall_message_of_the_server(
    me: Enrolment, server: ServerUnderTest, fleet: FleetUnderTest, tmp_path: Path
) -> None:
    made = release_ref(release(server, fleet, "2.0.0"))
    door = TrustDoor(tmp_path, me)
    door.refresh([made])
    with server.database.write() as session:
        fleet.recall(session, made.id, Kind.REVOCATION, now_ms())
    door.apply_recalls(retained(server, RECALLS))
    assert made.id in door.view(now_ms()).recalls.blocked


def test_a_device_takes_the_assignment_that_the_director_signed(
    me: Enrolment, server: ServerUnderTest, tmp_path: Path
) -> None:
    door = TrustDoor(tmp_path, me)
    door.refresh([])
    inbox = Inbox(tmp_path, me, door.load)
    topic = device_topic(me.device, "assignment")
    assert isinstance(inbox.receive(topic, retained(server, topic)), Accepted)


def test_a_device_resumes_a_blob_of_the_server(
    me: Enrolment, server: ServerUnderTest, tmp_path: Path
) -> None:
    data = os.urandom(300_000)
    server.blobs.put(data)
    store = Store(tmp_path)
    store.incoming(sha256(data)).write_bytes(data[:1000])
    with closing(Fetcher(me.server, me.token, store)) as fetcher:
        fetched = fetcher.fetch_file(sha256(data), len(data))
        assert fetcher.get_delta_offer(sha256(data), sha256(b"old")) is None
    assert fetched.path.read_bytes() == data
    assert fetched.resumed == 1000
