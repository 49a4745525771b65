"""What an approver is shown, and what no approver can be made to sign."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from sqlmodel import Session
from tests.support.fleet import (
    ACTOR,
    NOW,
    FleetUnderTest,
    fetcher,
    id_of,
    make_release,
)

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import Waiver, read_release, write_release
from modelfleet_server.trust import approving, proposing, recalling
from modelfleet_server.trust.approving import InForce, ProposalCopy
from modelfleet_server.trust.changes import RefusedError
from modelfleet_server.trust.domain import Kind

Value = dict[str, Any]
PATH = "m/demo/digits/1.0.0/release.json"


def _with(copy: ProposalCopy, role: str, change: Callable[[Value], object]) -> ProposalCopy:
    value = json.loads(copy.roles[role])
    change(value)
    roles = {**copy.roles, role: canonical(value)}
    return ProposalCopy(copy.id, copy.title, roles, copy.targets)


def _refused(copy: ProposalCopy, held: InForce, fleet: FleetUnderTest, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        approving.describe(copy, held)
    with pytest.raises(RefusedError, match=why):
        approving.sign(copy, fleet.approver, held)


def test_every_change_of_a_first_release_is_said(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest
) -> None:
    words = "\n".join(approving.describe(copy, held))
    key = fleet.approver.by_role["namespaces"].public.fingerprint[:12]
    for expected in (
        "Lets the slot digits hold demo/digits",
        f"Adds demo, signed by 1 of the keys {key}…",
        "Adds demo/digits, signed by 1 of the keys",
        f"Adds release demo/digits 1.0.0, id {id_of(make_release())}",
        "variant x86-avx2-fp32 for x86-avx2: 9 bytes, accuracy 0.98, rebuilt",
        "devices may return from it to: none",
    ):
        assert expected in words


def test_who_let_a_variant_pass_the_gate_and_why_is_said_and_signed(
    session: Session, fleet: FleetUnderTest
) -> None:
    usual = make_release()
    first, second = usual.variants
    waiver = Waiver(by="user:ann", reason="the plant accepts it until 1.1.0")
    waived = msgspec.structs.replace(first, waiver=waiver)
    release = msgspec.structs.replace(usual, variants=[waived, second])
    proposal = proposing.propose_release(
        session, release, slots=["digits"], actor=ACTOR, now_ms=NOW
    )
    copy = fleet.copy_of(session, proposal)
    held = approving.fetch_in_force(fetcher(session), fleet.fleet, copy.roles)
    words = "\n".join(approving.describe(copy, held))
    said = "outside of its budget; user:ann let it pass: the plant accepts it until 1.1.0"
    assert words.count(said) == 1
    (read,) = (read_release(data) for data in copy.targets.values())
    assert read == release
    assert id_of(release) != id_of(usual)


def test_an_approver_signs_every_role_with_the_key_of_that_role(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest
) -> None:
    signed = {one.role: one.key_id for one in approving.sign(copy, fleet.approver, held)}
    keys = {role: key.public.key_id for role, key in fleet.approver.by_role.items()}
    assert signed == {
        "targets": keys["targets"],
        "demo": keys["namespaces"],
        "demo/digits": keys["namespaces"],
    }


@pytest.mark.parametrize("version", [1, 3])
def test_a_version_that_is_not_the_next_is_refused(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest, version: int
) -> None:
    forged = _with(copy, "targets", lambda value: value.update(version=version))
    _refused(forged, held, fleet, "2 is next")


def test_a_field_that_is_not_known_is_refused(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest
) -> None:
    for role in copy.roles:
        forged = _with(copy, role, lambda value: value.update({"x-mirror": "http://e"}))
        _refused(forged, held, fleet, "x-mirror")


def test_other_bytes_than_those_listed_are_refused(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest
) -> None:
    other = write_release(make_release("1.0.0", rollback_to=["0.9.0"]))
    for targets in ({PATH: other}, {}):
        forged = ProposalCopy(copy.id, copy.title, copy.roles, targets)
        _refused(forged, held, fleet, "are not those that demo/digits lists")


def _list(data: bytes, path: str) -> Callable[[Value], object]:
    entry = {"length": len(data), "hashes": {"sha256": sha256(data)}}
    return lambda value: value["targets"].update({path: entry})


def test_a_release_under_another_name_is_refused(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest
) -> None:
    path = "m/demo/digits/9.9.9/release.json"
    for data, why in (
        (write_release(make_release("9.9.8")), "is demo/digits 9.9.8"),
        (write_release(make_release("9.9.9", model="demo/letters")), "is demo/letters"),
        (b"{}", "is not a release"),
    ):
        changed = _with(copy, "demo/digits", _list(data, path))
        forged = ProposalCopy(
            copy.id, copy.title, changed.roles, {**copy.targets, path: data}
        )
        _refused(forged, held, fleet, why)


def test_a_release_listed_by_another_role_than_its_models_is_refused(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest
) -> None:
    data = copy.targets[PATH]
    for role in ("targets", "demo"):
        forged = _with(copy, role, _list(data, PATH))
        _refused(forged, held, fleet, f"in {role} is demo/digits")


def test_a_signed_release_never_changes(session: Session, fleet: FleetUnderTest) -> None:
    fleet.release(session)
    proposal = proposing.propose_release(
        session, make_release("1.1.0"), slots=["digits"], actor=ACTOR, now_ms=NOW
    )
    copy, held = fleet.copy_of(session, proposal), fleet.in_force(session, proposal)
    forged = _with(copy, "demo/digits", _list(b"other", PATH))
    _refused(forged, held, fleet, "what was signed never changes")
    words = approving.describe(
        _with(copy, "demo/digits", lambda value: value["targets"].pop(PATH)), held
    )
    assert f"REMOVES {PATH}." in words


def _grant(name: str, paths: list[str]) -> Callable[[Value], object]:
    def change(value: Value) -> None:
        for role in value["delegations"]["roles"]:
            if role["name"] == name:
                role["paths"] = paths

    return change


@pytest.mark.parametrize(
    ("role", "name", "paths"),
    [
        ("targets", "director", ["m/*/*/*/release.json"]),
        ("targets", "time", ["*"]),
        ("targets", "demo", ["m/*/*/*/release.json"]),
        ("targets", "revocations", ["tombstone/*/*/*"]),
        ("targets", "stops", []),
        ("demo", "demo/digits", ["m/demo/*/*/release.json"]),
    ],
)
def test_a_role_that_would_reach_beyond_its_paths_is_refused(
    copy: ProposalCopy,
    held: InForce,
    fleet: FleetUnderTest,
    role: str,
    name: str,
    paths: list[str],
) -> None:
    _refused(_with(copy, role, _grant(name, paths)), held, fleet, f"lets {name} sign")


@pytest.mark.parametrize("name", ["d?mo", "*", "other/digits", "Demo", "[a-z]"])
def test_a_role_with_a_wildcard_or_of_another_namespace_is_refused(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest, name: str
) -> None:
    def rename(value: Value) -> None:
        value["delegations"]["roles"][-1].update(
            name=name, paths=[f"m/{name}/*/release.json"]
        )

    for role in ("targets", "demo"):
        _refused(_with(copy, role, rename), held, fleet, f"{role} delegates")


def test_one_public_key_under_two_ids_is_refused(
    copy: ProposalCopy, held: InForce, fleet: FleetUnderTest
) -> None:
    def double(value: Value) -> None:
        keys = value["delegations"]["keys"]
        role = value["delegations"]["roles"][-1]
        keys["second-id"] = keys[role["keyids"][0]]
        role.update(keyids=[*role["keyids"], "second-id"], threshold=2)

    _refused(_with(copy, "targets", double), held, fleet, "named twice")


def test_another_signer_and_a_lower_floor_are_shouted(
    copy: ProposalCopy, held: InForce
) -> None:
    stranger = PrivateKey.generate().public

    def replace(value: Value) -> None:
        keys = value["delegations"]["keys"]
        director = value["delegations"]["roles"]
        role = next(one for one in director if one["name"] == "director")
        keys[stranger.key_id] = {
            "keytype": "ed25519",
            "scheme": "ed25519",
            "keyval": {"public": stranger.hex},
        }
        role["keyids"] = [stranger.key_id]
        value["x-epoch"] = 2

    words = "\n".join(approving.describe(_with(copy, "targets", replace), held))
    assert (
        f"CHANGES who signs director to 1 of the keys {stranger.fingerprint[:12]}" in words
    )
    assert "CHANGES the director's epoch to 2" in words
    floor = _with(copy, "demo/digits", lambda value: value.update({"x-floor": "1.0.0"}))
    assert "Raises the floor of demo/digits from none to 1.0.0." in approving.describe(
        floor, held
    )


def test_a_list_that_drops_a_tombstone_is_refused(
    session: Session, fleet: FleetUnderTest
) -> None:
    first, second = fleet.release(session), fleet.release(session, "1.1.0")
    fleet.recall(session, id_of(first))
    what = recalling.find_recalled(session, id_of(second))
    proposal = recalling.propose_recall(
        session, Kind.REVOCATION, what, "slow", actor=ACTOR, now_ms=NOW
    )
    copy, held = fleet.copy_of(session, proposal), fleet.in_force(session, proposal)
    assert approving.describe(copy, held) == [
        f"Blocks installing the release {id_of(second)}: slow"
    ]
    dropped = _with(
        copy,
        "revocations",
        lambda value: value["targets"].pop(f"tombstone/block/release/{id_of(first)}"),
    )
    _refused(dropped, held, fleet, "stays recalled")


@pytest.mark.parametrize(
    "path",
    ["tombstone/block/model/x", "tombstone/block/release/x", "m/demo/x/release.json"],
)
def test_what_is_no_tombstone_is_refused(
    session: Session, fleet: FleetUnderTest, path: str
) -> None:
    what = recalling.find_recalled(session, id_of(fleet.release(session)))
    proposal = recalling.propose_recall(
        session, Kind.REVOCATION, what, "slow", actor=ACTOR, now_ms=NOW
    )
    copy, held = fleet.copy_of(session, proposal), fleet.in_force(session, proposal)
    _refused(_with(copy, "revocations", _list(b"", path)), held, fleet, "no tombstone")
