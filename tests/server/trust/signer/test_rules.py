"""What the signer refuses, whoever asks: each the wish of somebody who has the API."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlmodel import Session
from tests.support.fleet import ACTOR, NOW, FleetUnderTest, begin, id_of, make_release
from tests.support.server import make_database

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.deployment import Admit, Deployment, SlotSteps, Step, Tighten
from modelfleet_manifests.document import write
from modelfleet_manifests.header import Header, Minimum
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import Release, ReleaseRef, release_ref
from modelfleet_server.kit.db import Database
from modelfleet_server.trust import proposing, rolefile, store
from modelfleet_server.trust.lessons import lessons
from modelfleet_server.trust.online import read_rings
from modelfleet_server.trust.publishing import keep_fresh, store_file
from modelfleet_server.trust.signer.desk import Desk
from modelfleet_server.trust.signer.domain import (
    LacksError,
    NoOnlineKeyError,
    RefusedError,
    RoleFile,
    TakenError,
)
from modelfleet_server.trust.signer.memory import Memory

Value = dict[str, Any]
DAY_MS = 86_400_000
GROUP = "ab" * 16


@pytest.fixture
def online_path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "online.key"


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    memory = Memory(tmp_path / "signer.db")
    yield memory
    memory.close()


@pytest.fixture
def desk(
    database: Database, fleet: FleetUnderTest, online_path: Path, memory: Memory
) -> Desk:
    """The rules of the process with its own clock; it was shown what is in force."""
    desk = Desk(lambda: read_rings(online_path), memory, lambda: NOW)
    with database.read() as session:
        desk.learn(list(lessons(session)))
    fleet.publisher.signer = fleet.director.signer = desk
    return desk


def _payload(session: Session, role: str) -> Value:
    value: Value = json.loads(store.read_payload(session, role) or b"")
    return value


def _ids(session: Session, role: str) -> list[str]:
    ids: list[str] = _payload(session, "root")["roles"][role]["keyids"]
    return ids


def _ask(
    desk: Desk, session: Session, role: str, change: Callable[[Value], object]
) -> object:
    """Ask for the next version of a role with something changed in it."""
    value = _payload(session, role)
    base = int(_payload(session, "snapshot")["version"])
    value["version"] += 1
    change(value)
    return desk.sign_role(role, canonical(value), _ids(session, role), base=base)


def _deployment(desk: Desk, *releases: Release, **header: object) -> bytes:
    values: Value = {
        "type": "deployment", "v": 0, "needs": [], "fleet": desk.greet().fleet, "epoch": 1,
        "counter": NOW, "issued": NOW, "expires": NOW + 30 * DAY_MS, "min": Minimum(),
        "group": GROUP,
    }  # fmt: skip
    steps = [
        Step(
            id=f"{number:032x}",
            release=release_ref(release),
            admit=Admit(salt="5" * 32, to="all", enrolments=[], labels={}),
            gates=Tighten(),
        )
        for number, release in enumerate(releases)
    ]
    slots = {"main": SlotSteps(steps=steps)} if steps else {}
    return write(Deployment(header=Header(**values | header), slots=slots, left=[]))


def test_a_release_that_no_approver_signed_is_not_named_in_a_snapshot(
    desk: Desk, session: Session
) -> None:
    def name(value: Value) -> None:
        value["meta"]["evil/model.json"] = {"version": 1}

    with pytest.raises(LacksError):
        _ask(desk, session, "snapshot", name)


def test_a_role_file_with_too_few_signatures_is_not_learnt(
    desk: Desk, session: Session, fleet: FleetUnderTest
) -> None:
    proposal = proposing.propose_release(
        session, make_release(), slots=["digits"], actor=ACTOR, now_ms=NOW
    )
    thief = PrivateKey.generate()
    for role, payload in fleet.copy_of(session, proposal).roles.items():
        forged = rolefile.assemble(
            payload, {thief.public.key_id: thief.sign(payload).hex()}
        )
        with pytest.raises(RefusedError):
            desk.learn([RoleFile(role, forged)])


def test_another_fleets_root_is_not_learnt(
    fleet: FleetUnderTest, online_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    database = make_database(tmp_path / "other" / "db")
    begin(database, tmp_path / "other")
    with database.read() as session:
        files = list(lessons(session))
    database.close()
    desk = Desk(lambda: read_rings(online_path), Memory(), lambda: NOW)
    with pytest.raises(RefusedError, match="begins another fleet"):
        desk.learn(files)


def test_a_settled_snapshot_is_not_taken_back(
    desk: Desk, session: Session, fleet: FleetUnderTest
) -> None:
    fleet.release(session)
    before = _payload(session, "snapshot")["meta"]
    fleet.release(session, "1.1.0")
    keep_fresh(session, desk, NOW + DAY_MS)  # its base is settled now

    def take_back(value: Value) -> None:
        value["meta"] = before

    with pytest.raises(RefusedError, match="takes back demo/digits 2"):
        _ask(desk, session, "snapshot", take_back)


def test_a_release_whose_transaction_came_to_nothing_does_not_block_the_signer(
    desk: Desk, database: Database, fleet: FleetUnderTest
) -> None:
    def fail() -> None:
        with database.write() as session:
            fleet.release(session)
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        fail()
    with database.write() as session:
        assert keep_fresh(session, desk, NOW + DAY_MS)
        release = fleet.release(session, now_ms=NOW)
        assert store.find_release(session, id_of(release)) is not None


def test_a_version_is_signed_with_one_content_and_never_counted_up(
    desk: Desk, session: Session
) -> None:
    def sooner(value: Value) -> None:
        value["expires"] = "2026-09-22T00:00:00Z"

    keep_fresh(session, desk, NOW + DAY_MS)
    first = _ask(desk, session, "timestamp", _as_it_is)
    assert _ask(desk, session, "timestamp", _as_it_is) == first
    with pytest.raises(TakenError) as caught:
        _ask(desk, session, "timestamp", sooner)
    assert caught.value.data["role"] == "timestamp"
    with pytest.raises(RefusedError, match="far beyond"):
        _ask(desk, session, "snapshot", lambda value: value.update(version=1 << 40))


def _as_it_is(value: Value) -> None:
    """Change nothing."""


def _named(timestamp: Value) -> Value:
    named: Value = timestamp["meta"]["snapshot.json"]
    return named


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("timestamp", lambda v: _named(v).update(version=77)),
        ("timestamp", lambda v: _named(v)["hashes"].update(sha256="0" * 64)),
        ("timestamp", lambda v: _named(v).pop("hashes")),
        ("timestamp", lambda v: v.update({"x-issued": NOW + 2 * DAY_MS})),
        ("timestamp", lambda v: v.update({"x-issued": 4_070_908_800_000})),
        ("timestamp", lambda v: v.pop("x-issued")),
        ("timestamp", lambda v: v.update(expires="2099-01-01T00:00:00Z")),
        ("snapshot", lambda v: v.update(expires="2099-01-01T00:00:00Z")),
        ("snapshot", lambda v: v.update({"x-other": 1})),
        ("snapshot", lambda v: v.update(_type="root")),
    ],
)  # fmt: skip
def test_a_timestamp_or_snapshot_that_breaks_a_rule_is_not_signed(
    desk: Desk, session: Session, role: str, change: Callable[[Value], object]
) -> None:
    keep_fresh(session, desk, NOW + DAY_MS)
    with pytest.raises(RefusedError):
        _ask(desk, session, role, change)


def test_only_snapshots_and_timestamps_are_signed_as_roles(
    desk: Desk, session: Session
) -> None:
    for role in ("root", "targets", "revocations", "director"):
        payload = store.read_payload(session, role if role != "director" else "targets")
        with pytest.raises(RefusedError, match="does not sign"):
            desk.sign_role(role, payload or b"", _ids(session, "snapshot"), base=1)
    payload = canonical(_payload(session, "snapshot") | {"version": 9})
    with pytest.raises(NoOnlineKeyError):
        desk.sign_role("snapshot", payload, ["0" * 64], base=1)


@pytest.mark.parametrize(
    "header",
    [
        {"fleet": "0" * 64},
        {"type": "assignment"},
        {"epoch": 2},
        {"counter": NOW + 2 * DAY_MS},
        {"issued": NOW - 2 * DAY_MS},
        {"issued": NOW + 2 * DAY_MS},
        {"expires": NOW + 60 * DAY_MS},
        {"expires": NOW},
        {"group": msgspec.UNSET},
        {"group": msgspec.UNSET, "device": "cam-1", "enrolment": "3" * 32},
    ],
)
def test_a_document_that_breaks_a_rule_is_not_signed(desk: Desk, header: Value) -> None:
    with pytest.raises(RefusedError):
        desk.sign_documents("deployment", [_deployment(desk, **header)], [])


def test_documents_of_an_unknown_kind_and_noise_are_not_signed(desk: Desk) -> None:
    good = _deployment(desk)
    for kind, payload in (
        ("release", good), ("report", good), ("assignment", good), ("deployment", b"{}"),
        ("deployment", good + b" "), ("deployment", b""),
    ):  # fmt: skip
        with pytest.raises(RefusedError):
            desk.sign_documents(kind, [payload], [])


def test_a_document_that_names_what_no_approver_listed_is_not_signed(
    desk: Desk, session: Session, fleet: FleetUnderTest
) -> None:
    listed = fleet.release(session)
    desk.sign_documents("deployment", [_deployment(desk, listed)], [])
    for strange in (make_release("1.0.1"), make_release(model="demo/other")):
        payload = _deployment(desk, strange, counter=NOW + 1)
        with pytest.raises(LacksError):
            desk.sign_documents("deployment", [payload], [])
    forged = ReleaseRef(model=listed.model, version=listed.version, id="9" * 64)
    value = json.loads(_deployment(desk, listed, counter=NOW + 1))
    value["slots"]["main"]["steps"][0]["release"] = msgspec.to_builtins(forged)
    with pytest.raises(LacksError):
        desk.sign_documents("deployment", [canonical(value)], [])


def test_an_order_is_signed_with_one_content_also_after_a_restart(
    desk: Desk, session: Session, fleet: FleetUnderTest, online_path: Path, memory: Memory
) -> None:
    first = _deployment(desk)
    signed = desk.sign_documents("deployment", [first], [])
    again = Desk(lambda: read_rings(online_path), memory, lambda: NOW)
    assert again.sign_documents("deployment", [first], []) == signed
    other = _deployment(desk, expires=NOW + 29 * DAY_MS)
    older = _deployment(desk, counter=NOW - 1)
    for payload in (other, older):
        with pytest.raises(TakenError) as caught:
            again.sign_documents("deployment", [payload], [])
        assert (caught.value.data["epoch"], caught.value.data["counter"]) == (1, NOW)


def test_a_batch_is_signed_whole_or_not_at_all(desk: Desk, memory: Memory) -> None:
    good, bad = _deployment(desk), _deployment(desk, group="cd" * 16, fleet="0" * 64)
    with pytest.raises(RefusedError):
        desk.sign_documents("deployment", [good, bad], [])
    assert memory.order(f"mf/v1/g/{GROUP}/deployment") is None


def test_a_signer_that_knows_nothing_is_taught_by_the_first_who_publishes(
    session: Session, fleet: FleetUnderTest, online_path: Path
) -> None:
    fleet.publisher.signer = Desk(lambda: read_rings(online_path), Memory(), lambda: NOW)
    release = fleet.release(session)
    assert store.find_release(session, id_of(release)) is not None


def test_a_root_that_the_old_root_did_not_sign_is_not_learnt(
    desk: Desk, session: Session
) -> None:
    value = _payload(session, "root")
    value["version"] = 2
    thief = PrivateKey.generate()
    payload = canonical(value)
    forged = rolefile.assemble(payload, {thief.public.key_id: thief.sign(payload).hex()})
    with pytest.raises(RefusedError):
        desk.learn([RoleFile("root", forged)])
    store_file(session, "root", forged, NOW)
    with pytest.raises(RefusedError):
        desk.learn(list(lessons(session)))
