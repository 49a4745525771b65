"""The agent's own verification on what this server serves, and both sides' view of it."""

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from sqlmodel import Session, select
from tests.support.fleet import FleetUnderTest, id_of
from tests.support.solo_content import random_id

from modelfleet_agent.trust.__main__ import perform
from modelfleet_agent.trust.memory import believe
from modelfleet_agent.trust.messages import Answer, Recall, Refresh, Wish
from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.envelope import unseal
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.names import release_path
from modelfleet_manifests.release import Release
from modelfleet_manifests.topics import RECALLS, deployment_topic
from modelfleet_server.bridge.tables import Outbox
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.trust import director
from modelfleet_server.trust.domain import Kind
from modelfleet_server.trust.drafting import Draft
from modelfleet_server.trust.view import read_view


class Device:
    """What the agent's metadata child does, in this process."""

    def __init__(self, url: str, fleet: str, directory: Path) -> None:
        self.url, self.fleet, self.directory = url, fleet, directory
        root = httpx2.get(f"{url}/tuf/metadata/1.root.json").content
        (directory / "factory").mkdir(parents=True)
        (directory / "factory" / "root.json").write_bytes(root)

    def refresh(self, *want: Release) -> Answer:
        return perform(
            Refresh(
                directory=str(self.directory),
                fleet=self.fleet,
                server=self.url,
                token="none",
                nonce=random_id(),
                want=[
                    Wish(release_path(one.model, one.version), id_of(one)) for one in want
                ],
            )
        )

    def recall(self, payload: bytes) -> Answer:
        return perform(
            Recall(directory=str(self.directory), fleet=self.fleet, payload=payload)
        )

    @property
    def state(self) -> TrustState:
        return believe(self.directory, self.fleet)


@pytest.fixture
def device(url: str, fresh: FleetUnderTest, tmp_path: Path) -> Device:
    return Device(url, fresh.fleet, tmp_path / "device")


Released = Callable[[str], Release]


@pytest.fixture
def released(database: Database, fresh: FleetUnderTest) -> Released:
    def release(version: str) -> Release:
        with database.write() as session:
            return fresh.release(session, version, now_ms=now_ms())

    return release


def test_an_agent_lists_what_was_signed_and_knows_the_directors_key(
    device: Device, released: Released, fresh: FleetUnderTest
) -> None:
    release = released("1.0.0")
    assert device.refresh(release).code == ""
    state = device.state
    assert state.listed == {"m/demo/digits/1.0.0/release.json": id_of(release)}
    assert state.director == [fresh.director.public.hex]
    assert state.is_fresh(now_ms())


def test_agent_and_server_see_the_same(
    database: Database, device: Device, released: Released, fresh: FleetUnderTest
) -> None:
    first, second = released("1.0.0"), released("1.1.0")
    with database.write() as session:
        fresh.recall(session, id_of(first), now_ms=now_ms())
        fresh.recall(session, second.variants[0].digest, Kind.STOP, now_ms=now_ms())
    assert device.refresh(first, second).code == ""
    state = device.state
    with database.read() as session:
        view = read_view(session, now_ms=now_ms())
    assert set(state.listed.values()) == set(view.releases)
    assert state.minimum == view.seen
    assert state.epoch == view.epoch
    assert set(state.blocked) == view.recalls.blocked
    assert set(state.stopped) == view.recalls.stopped
    assert {
        slot: [(one.model, one.schema) for one in rules]
        for slot, rules in state.slots.items()
    } == {
        slot: [(one.model, one.schema) for one in rules]
        for slot, rules in view.slots.items()
    }


def test_a_recall_message_reaches_an_agent_without_a_refresh(
    database: Database, device: Device, released: Released, fresh: FleetUnderTest
) -> None:
    release = released("1.0.0")
    assert device.refresh(release).code == ""
    with database.write() as session:
        fresh.recall(session, id_of(release), Kind.STOP, now_ms=now_ms())
        payload = session.exec(select(Outbox.payload).where(Outbox.topic == RECALLS)).one()
    assert device.recall(payload) == Answer()
    assert device.state.stopped == [id_of(release)]


def test_a_document_asks_for_no_more_than_the_agent_can_fetch(
    database: Database, device: Device, released: Released, fresh: FleetUnderTest
) -> None:
    release = released("1.0.0")
    issued = _deploy(database, fresh)
    assert device.refresh(release).code == ""
    keys = [PublicKey(one) for one in device.state.director]
    unseal(issued.envelope, "deployment", keys, cap=1 << 15)
    header = issued.document.header
    assert header.fleet == device.fleet
    assert header.epoch == device.state.epoch
    assert header.min.is_met_by(device.state.minimum)
    released("1.1.0")
    newer = _deploy(database, fresh).document.header
    assert not newer.min.is_met_by(device.state.minimum)
    device.refresh()
    assert newer.min.is_met_by(device.state.minimum)


def _deploy(database: Database, fleet: FleetUnderTest) -> director.Issued:
    group = "ab" * 16

    def publish(session: Session) -> director.Issued:
        draft = Draft(
            deployment_topic(group),
            lambda header: Deployment(header=header, slots={}, left=[]),
            group=group,
        )
        return director.publish(session, fleet.director, [draft], now_ms=now_ms())[0]

    with database.write() as session:
        return publish(session)


def test_another_fleets_server_is_refused_by_the_agent(
    url: str, fresh: FleetUnderTest, tmp_path: Path
) -> None:
    stranger = Device(url, "0" * 64, tmp_path / "stranger")
    assert stranger.refresh().code == "E_METADATA"
