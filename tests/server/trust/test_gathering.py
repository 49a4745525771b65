"""A ceremony of several people: left and resumed, and nothing hidden in what is signed."""

from pathlib import Path

import msgspec
import pytest
from sqlmodel import Session
from tests.support.fleet import CHEAP, NOW, PASSPHRASE, fetcher

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.keys import PublicKey
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import ConflictError, ForbiddenError, InvalidError
from modelfleet_server.trust import approving, gathering, store
from modelfleet_server.trust.approver import (
    ROLES,
    UNBOUND,
    ApproverKeys,
    bind_approver,
    open_approver,
    write_approver,
)
from modelfleet_server.trust.ceremony import FleetExistsError, fleet_id
from modelfleet_server.trust.gathering import Gathering
from modelfleet_server.trust.online import OnlineKeys

NAMES = ("ann", "ben", "eve")
TWO = {"root": 2, "targets": 2, "namespaces": 2, "stops": 2, "revocations": 1}


@pytest.fixture
def keys() -> dict[str, ApproverKeys]:
    return {name: ApproverKeys(UNBOUND, ApproverKeys.generate()) for name in NAMES}


@pytest.fixture
def online() -> OnlineKeys:
    return OnlineKeys.generate()


def public(keys: ApproverKeys) -> dict[str, PublicKey]:
    return {role: key.public for role, key in keys.by_role.items()}


@pytest.fixture
def closed(keys: dict[str, ApproverKeys], online: OnlineKeys) -> Gathering:
    held = gathering.begin(TWO, online, groups=[["ann", "ben"], ["eve"]])
    for name, one in keys.items():
        held = gathering.join(held, name, public(one))
    return gathering.close(held, NOW)


def test_two_of_three_begin_a_fleet_by_a_file_that_goes_from_hand_to_hand(
    database: Database,
    tmp_path: Path,
    keys: dict[str, ApproverKeys],
    online: OnlineKeys,
) -> None:
    path = tmp_path / "ceremony.json"
    gathering.write(path, gathering.begin(TWO, online))
    for name, one in keys.items():
        gathering.write(path, gathering.join(gathering.read(path), name, public(one)))
        again = gathering.join(gathering.read(path), name, public(one))
        assert again == gathering.read(path)  # a step done twice changes nothing
    gathering.write(path, gathering.close(gathering.read(path), NOW))
    gathering.write(path, gathering.sign(gathering.read(path), keys["ann"]))
    held = gathering.read(path)
    assert gathering.missing(held) == {
        "root": 1, "targets": 1, "revocations": 0, "stops": 1,
    }  # fmt: skip
    with pytest.raises(ConflictError, match="1 more"), database.write() as session:
        gathering.finish(session, held, online, NOW)
    gathering.write(path, gathering.sign(held, keys["eve"]))
    with database.write() as session:
        root = gathering.finish(session, gathering.read(path), online, NOW)
        assert fleet_id(session) == sha256(root)
        assert (
            approving.fetch_in_force(fetcher(session), sha256(root), {}).root.version == 1
        )
    with pytest.raises(FleetExistsError), database.write() as session:
        gathering.finish(session, gathering.read(path), online, NOW)


def test_groups_named_at_the_ceremony_are_in_the_targets(
    session: Session, closed: Gathering, keys: dict[str, ApproverKeys], online: OnlineKeys
) -> None:
    held = gathering.sign(gathering.sign(closed, keys["ann"]), keys["ben"])
    gathering.finish(session, held, online, NOW)
    payload = store.read_payload(session, "targets")
    assert payload is not None
    groups = msgspec.json.decode(payload)["x-groups"]
    assert groups[1] == [keys["eve"].by_role["namespaces"].public.hex]


def test_everybody_is_told_who_signs_and_with_which_keys(
    closed: Gathering, keys: dict[str, ApproverKeys]
) -> None:
    words = "\n".join(gathering.describe(closed))
    assert "root: 2 of 3 people sign." in words
    assert "The root is valid until 2028-" in words
    assert "One of ann, ben must sign a release." in words
    for one in keys.values():
        assert one.by_role["root"].public.fingerprint[:16] in words


def test_a_key_file_is_bound_to_the_fleet_that_names_it(
    session: Session,
    tmp_path: Path,
    closed: Gathering,
    keys: dict[str, ApproverKeys],
    online: OnlineKeys,
) -> None:
    held = gathering.sign(gathering.sign(closed, keys["ann"]), keys["ben"])
    root = gathering.finish(session, held, online, NOW)
    path = tmp_path / "ann.key"
    write_approver(path, keys["ann"], PASSPHRASE, CHEAP)
    bind_approver(path, gathering.adopt(keys["ann"], root), PASSPHRASE, CHEAP)
    assert open_approver(path, PASSPHRASE).fleet == sha256(root)
    bind_approver(path, gathering.adopt(keys["ann"], root), PASSPHRASE, CHEAP)
    stranger = ApproverKeys(UNBOUND, ApproverKeys.generate())
    with pytest.raises(ForbiddenError):
        gathering.adopt(stranger, root)
    with pytest.raises(InvalidError):
        bind_approver(path, stranger, PASSPHRASE, CHEAP)


def test_a_key_that_somebody_slipped_in_is_not_signed(
    closed: Gathering, keys: dict[str, ApproverKeys]
) -> None:
    thief = ApproverKeys.generate()["root"].public.hex
    ben = closed.people["ben"]["root"]
    forged = {role: text.replace(ben, thief) for role, text in closed.payloads.items()}
    with pytest.raises(InvalidError, match="altered"):
        gathering.sign(msgspec.structs.replace(closed, payloads=forged), keys["ann"])


@pytest.mark.parametrize("role", ROLES)
def test_a_threshold_that_was_lowered_is_not_signed(
    closed: Gathering, keys: dict[str, ApproverKeys], role: str
) -> None:
    lowered = closed.thresholds | {role: 3}
    with pytest.raises(InvalidError, match="altered"):
        gathering.sign(msgspec.structs.replace(closed, thresholds=lowered), keys["ann"])


def test_a_stranger_cannot_sign_nor_anybody_before_all_have_joined(
    closed: Gathering, keys: dict[str, ApproverKeys], online: OnlineKeys
) -> None:
    with pytest.raises(ForbiddenError):
        gathering.sign(closed, ApproverKeys(UNBOUND, ApproverKeys.generate()))
    early = gathering.join(gathering.begin(TWO, online), "ann", public(keys["ann"]))
    with pytest.raises(ConflictError):
        gathering.sign(early, keys["ann"])


def test_one_key_counts_for_one_person(
    keys: dict[str, ApproverKeys], online: OnlineKeys, closed: Gathering
) -> None:
    held = gathering.join(gathering.begin(TWO, online), "ann", public(keys["ann"]))
    with pytest.raises(ConflictError):
        gathering.join(held, "ben", public(keys["ann"]))
    with pytest.raises(ConflictError):
        gathering.join(held, "ann", public(keys["ben"]))
    late = ApproverKeys(UNBOUND, ApproverKeys.generate())
    with pytest.raises(ConflictError):
        gathering.join(closed, "late", public(late))


def test_thresholds_that_nobody_can_meet_do_not_close(
    keys: dict[str, ApproverKeys], online: OnlineKeys
) -> None:
    held = gathering.join(gathering.begin(TWO, online), "ann", public(keys["ann"]))
    with pytest.raises(InvalidError, match="1 people"):
        gathering.close(held, NOW)
    with pytest.raises(InvalidError, match="thresholds"):
        gathering.begin({"root": 1}, online)
    named = gathering.begin(dict.fromkeys(ROLES, 1), online, groups=[["nobody"]])
    named = gathering.join(named, "ann", public(keys["ann"]))
    with pytest.raises(InvalidError, match="nobody of a group"):
        gathering.close(named, NOW)


def test_other_online_keys_than_those_of_the_ceremony_are_refused(
    session: Session, closed: Gathering, keys: dict[str, ApproverKeys]
) -> None:
    held = gathering.sign(gathering.sign(closed, keys["ann"]), keys["ben"])
    with pytest.raises(InvalidError, match="other online keys"):
        gathering.finish(session, held, OnlineKeys.generate(), NOW)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"format": "x"}'])
def test_a_file_that_is_no_ceremony_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "c.json").write_bytes(data)
    with pytest.raises(InvalidError):
        gathering.read(tmp_path / "c.json")
