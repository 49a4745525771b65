"""Beginning a fleet: all of it or nothing, and only once."""

import json
from pathlib import Path

import pytest
from sqlmodel import Session, select
from tests.support.fleet import CHEAP, NOW, PASSPHRASE, FleetUnderTest, begin

from modelfleet_manifests.topics import RECALLS, TIMESTAMP
from modelfleet_server.bridge.tables import Outbox
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import ConflictError, InvalidError
from modelfleet_server.trust import rolefile, store
from modelfleet_server.trust.ceremony import FleetExistsError, fleet_id, init_solo
from modelfleet_server.trust.delegations import KeySet
from modelfleet_server.trust.online import read_online
from modelfleet_server.trust.tables import TrustMetadata


def _init(session: Session, folder: Path, passphrase: str = PASSPHRASE) -> tuple[str, ...]:
    return init_solo(
        session,
        online_path=folder / "keys" / "online.key",
        approver_path=folder / "approver.key",
        passphrase=passphrase,
        now_ms=NOW,
        cost=CHEAP,
    ).words


def test_a_fleet_begins_with_every_role_at_version_one(
    session: Session, fleet: FleetUnderTest
) -> None:
    rows = session.exec(select(TrustMetadata)).all()
    assert {row.role for row in rows} == {
        *("root", "targets", "snapshot", "timestamp", "revocations", "stops"),
    }
    assert {row.version for row in rows} == {1}
    assert fleet_id(session) == fleet.fleet
    assert store.read_epoch(session) == 1
    sent = {row.topic: row.payload for row in session.exec(select(Outbox))}
    timestamp = store.find_newest(session, "timestamp")
    assert timestamp is not None
    assert sent[TIMESTAMP] == timestamp.data
    assert set(json.loads(sent[RECALLS])) == {"revocations", "stops"}


def test_no_two_roles_share_a_key(session: Session, fleet: FleetUnderTest) -> None:
    online = read_online(fleet.approver_path.parent / "keys" / "online.key").keys
    keys = [key.public.hex for key in fleet.approver.by_role.values()]
    keys += [key.hex for key in online.public().values()]
    assert len(set(keys)) == len(keys) == 9


def test_director_and_time_can_sign_no_target(
    session: Session, fleet: FleetUnderTest
) -> None:
    targets = rolefile.parse_targets(store.read_payload(session, "targets") or b"")
    assert targets.delegations is not None
    roles = targets.delegations.roles or {}
    assert {name: role.paths for name, role in roles.items()} == {
        "revocations": ["tombstone/block/*/*"],
        "stops": ["tombstone/stop/*/*"],
        "director": [],
        "time": [],
    }
    assert all(role.terminating for role in roles.values())


def test_a_second_fleet_in_the_same_home_is_refused(
    session: Session, fleet: FleetUnderTest, tmp_path: Path
) -> None:
    with pytest.raises(FleetExistsError, match=fleet.fleet):
        _init(session, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["approver.key", "keys/online.key"])
def test_an_existing_key_file_stops_the_ceremony_and_leaves_nothing(
    database: Database, tmp_path: Path, name: str
) -> None:
    there = tmp_path / name
    there.parent.mkdir(exist_ok=True)
    there.write_text("precious")
    with pytest.raises(ConflictError), database.write() as session:
        _init(session, tmp_path)
    assert there.read_text() == "precious"
    assert [path for path in tmp_path.rglob("*.key") if path != there] == []
    with database.read() as session:
        assert fleet_id(session) is None


def test_a_disk_that_refuses_the_second_file_leaves_neither_file_nor_fleet(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("a file where a folder is needed")
    with pytest.raises(OSError, match="keys"), database.write() as session:
        _init(session, tmp_path)
    assert not (tmp_path / "approver.key").exists()
    with database.read() as session:
        assert fleet_id(session) is None


def test_a_short_passphrase_stops_the_ceremony(session: Session, tmp_path: Path) -> None:
    with pytest.raises(InvalidError):
        _init(session, tmp_path, "short")
    assert not (tmp_path / "approver.key").exists()


def test_the_summary_says_what_solo_means(session: Session, tmp_path: Path) -> None:
    words = " ".join(_init(session, tmp_path))
    assert "one key" in words
    assert str(tmp_path / "approver.key") in words
    assert "keep that file elsewhere" in words


def test_two_ceremonies_make_two_fleets(database: Database, tmp_path: Path) -> None:
    one = begin(database, tmp_path / "one")
    assert len(one.fleet) == 64


def test_one_public_key_is_never_named_twice_for_a_role(fleet: FleetUnderTest) -> None:
    key = fleet.approver.by_role["root"].public
    with pytest.raises(ValueError, match="twice"):
        KeySet((key, key), threshold=2)
    with pytest.raises(ValueError, match="2 of 1"):
        KeySet((key,), threshold=2)
