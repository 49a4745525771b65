"""People who come, leave or lose their keys; each on devices, one a year behind."""

import pytest
from sqlmodel import select
from tests.support.fleet import id_of, make_release
from tests.support.people import Office, Person, TrustDevice, key_set, may_sign
from tuf.api.metadata import Metadata

from modelfleet_manifests.keys import PrivateKey
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.console.fleet import Ask, NeedView, fleet_view
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust import (
    proposing,
    recalling,
    rekeying,
    store,
)
from modelfleet_server.trust.approver import ROLES
from modelfleet_server.trust.delegations import KeySet
from modelfleet_server.trust.domain import Kind, State
from modelfleet_server.trust.keyplan import KeyPlan
from modelfleet_server.trust.view import read_recalls

FIRST, SECOND, THIRD = (make_release(one) for one in ("1.0.0", "1.1.0", "1.2.0"))
GROUP = "ab" * 16


def grow(office: Office) -> list[Person]:
    """From one person to three: root, targets and approvers 2 of 3, stops 2, recalls 1."""
    people = office.hire("ann", "ben", "eve")
    thresholds = {"root": 2, "targets": 2, "namespaces": 2, "stops": 2, "revocations": 1}
    plan = KeyPlan(
        {role: key_set(role, people, count) for role, count in thresholds.items()}
    )
    proposal = office.propose(plan)
    assert office.sign(proposal, office.solo) is State.OPEN
    assert office.sign(proposal, people[0]) is State.OPEN
    assert office.sign(proposal, people[1]) is State.PUBLISHED
    return people


def test_a_solo_fleet_grows_to_two_of_three_without_touching_a_device(
    office: Office, device: TrustDevice
) -> None:
    ann, ben, _ = grow(office)
    assert device.refresh().code == ""
    assert device.listed == {id_of(FIRST)}  # the models were signed anew with their keys
    with office.database.write() as session:
        proposal = proposing.propose_release(
            session, SECOND, slots=["digits"], actor="user:op", now_ms=office.now
        ).id
    assert not may_sign(office, proposal, office.solo)
    assert office.sign(proposal, ann) is State.OPEN
    assert device.refresh(SECOND).code == ""
    assert device.state.problems == {id_of(SECOND): "E_NOT_LISTED"}
    assert office.sign(proposal, ben) is State.PUBLISHED
    assert device.refresh(SECOND).code == ""
    assert device.listed == {id_of(FIRST), id_of(SECOND)}


def test_a_device_a_year_behind_follows_the_growth(
    office: Office, device: TrustDevice
) -> None:
    people = grow(office)
    for _ in range(2):
        office.pass_days(200, *people)
    assert office.release(SECOND, *people) is State.PUBLISHED
    assert not device.state.is_fresh(office.now)
    assert device.refresh(SECOND).code == ""
    assert device.state.is_fresh(office.now)
    assert device.listed == {id_of(FIRST), id_of(SECOND)}


def needs(office: Office) -> list[NeedView]:
    """What the console shows as waiting for a person."""
    with office.database.read() as session:
        return fleet_view(session, Ask(), now_ms=office.now).needs


def test_console_and_audit_say_who_approved_and_how_many_are_missing(
    office: Office,
) -> None:
    ann, ben, _ = grow(office)
    proposal = _propose(office)
    office.sign(proposal, ann)
    (need,) = needs(office)
    assert need.text.endswith("waits for 1 signature, signed by ann")
    assert need.command == f"modelfleet approve {proposal[:8]}"
    office.sign(proposal, ben)
    assert needs(office) == []
    with office.database.read() as session:
        entries = session.exec(select(AuditEntry)).all()
    signed = [one.actor for one in entries if one.action == "proposal.signed"]
    assert signed[-2:] == ["user:ann", "user:ben"]
    assert [one.action for one in entries][-1] == "proposal.published"


def test_one_of_each_group_must_sign(office: Office, device: TrustDevice) -> None:
    ann, ben, eve = grow(office)
    quality = [ann.public("namespaces"), ben.public("namespaces")]
    safety = [eve.public("namespaces")]
    assert office.rekey(KeyPlan(groups=[quality, safety]), ann, ben) is State.OPEN
    proposal = _only_open(office)
    assert office.sign(proposal, eve) is State.PUBLISHED  # the groups hold for itself
    proposal = _propose(office)
    assert office.sign(proposal, ann, ben) is State.OPEN  # the threshold, and no safety
    assert office.sign(proposal, eve) is State.PUBLISHED
    assert device.refresh(SECOND).code == ""
    assert id_of(SECOND) in device.listed


def test_the_device_itself_asks_for_one_of_each_group(
    office: Office, device: TrustDevice
) -> None:
    """A server that leaves out the signature of a group gains nothing."""
    ann, ben, eve = grow(office)
    groups = [[ann.public("namespaces")], [eve.public("namespaces")]]
    assert office.rekey(KeyPlan(groups=groups), ann, ben, eve) is State.PUBLISHED
    assert office.release(SECOND, ann, ben, eve) is State.PUBLISHED
    with office.database.write() as session:
        row = store.find_newest(session, "demo/digits")
        assert row is not None
        metadata = Metadata.from_bytes(row.data)
        del metadata.signatures[eve.public("namespaces").key_id]
        row.data = metadata.to_bytes()
        session.add(row)
    assert device.refresh(SECOND).code == ""
    assert device.state.problems == {id_of(SECOND): "E_GROUP"}
    assert device.listed == {id_of(FIRST)}


def test_one_stopper_of_two_stops_nothing(office: Office, device: TrustDevice) -> None:
    ann, ben, _ = grow(office)
    with office.database.write() as session:
        what = recalling.find_recalled(session, id_of(FIRST))
        proposal = recalling.propose_recall(
            session, Kind.STOP, what, "unsafe", actor="user:op", now_ms=office.now
        ).id
    assert office.sign(proposal, ann) is State.OPEN
    assert device.refresh().code == ""
    assert device.state.stopped == []
    assert office.sign(proposal, ben) is State.PUBLISHED
    assert device.refresh().code == ""
    assert device.state.stopped == [id_of(FIRST)]


def test_a_recall_is_undone_by_the_officers(office: Office, device: TrustDevice) -> None:
    with office.database.write() as session:
        office.fleet.recall(session, id_of(FIRST), Kind.STOP, office.now)
    device.refresh()
    assert device.state.stopped == [id_of(FIRST)]
    with office.database.write() as session:
        what = recalling.find_recalled(session, id_of(FIRST))
        proposal = rekeying.propose_pardon(
            session, Kind.STOP, what, "was right", actor="user:op", now_ms=office.now
        )
        lines = office.fleet.approve(session, proposal, office.now)
        assert lines == [
            f"ALLOWS AGAIN what tombstone/stop/release/{id_of(FIRST)} forbids."
        ]
        assert read_recalls(session).stopped == frozenset()
    assert device.refresh().code == ""
    assert device.state.stopped == []


def test_an_approver_who_leaves_signs_nothing_more_and_takes_nothing_away(
    office: Office, device: TrustDevice
) -> None:
    ann, ben, eve = grow(office)
    assert office.release(SECOND, ann, eve) is State.PUBLISHED
    without = KeyPlan({"namespaces": key_set("namespaces", [ann, ben], 2)})
    assert office.rekey(without, ann, ben) is State.PUBLISHED
    proposal = _propose(office, THIRD)
    assert not may_sign(office, proposal, eve)
    assert office.sign(proposal, ann) is State.OPEN
    assert office.sign(proposal, ben) is State.PUBLISHED
    assert device.refresh(SECOND, THIRD).code == ""
    assert device.listed == {id_of(FIRST), id_of(SECOND), id_of(THIRD)}


def test_a_lost_custodian_is_replaced_by_the_others(
    office: Office, device: TrustDevice
) -> None:
    ann, ben, _lost = grow(office)
    (dan,) = office.hire("dan")
    plan = KeyPlan({"root": key_set("root", [ann, ben, dan], 2)})
    proposal = office.propose(plan)
    assert office.sign(proposal, ann) is State.OPEN  # one custodian alone is not enough
    assert office.sign(proposal, dan) is State.OPEN  # nor with one whom only the new names
    assert office.sign(proposal, ben) is State.PUBLISHED
    assert device.refresh().code == ""
    assert device.state.minimum.root == 3


def test_three_new_roots_while_a_device_was_off_for_more_than_a_year(
    office: Office, device: TrustDevice
) -> None:
    people = grow(office)
    for name in ("dan", "fay", "gus"):
        (new,) = office.hire(name)
        before, people = people, [*people[1:], new]
        plan = KeyPlan({role: key_set(role, people, 2) for role in ROLES})
        assert office.rekey(plan, *before, new) is State.PUBLISHED
        office.pass_days(130, *people)
    assert office.release(SECOND, *people) is State.PUBLISHED
    assert device.refresh(SECOND).code == ""
    assert device.state.minimum.root == 5
    assert device.listed == {id_of(FIRST), id_of(SECOND)}


def test_a_root_with_a_new_life_keeps_its_keys(office: Office, device: TrustDevice) -> None:
    same = KeySet((office.solo.public("root"),))
    with office.database.write() as session:
        plan = KeyPlan({"root": same})
        proposal = rekeying.propose_keys(
            session, plan, "expires", actor="user:op", now_ms=office.now
        )
        (line,) = office.fleet.approve(session, proposal, office.now)
    assert line.startswith("Renews root: same keys")
    assert device.refresh().code == ""
    assert device.state.minimum.root == 2


@pytest.mark.parametrize(
    ("plan", "why"),
    [
        (KeyPlan(), "changes no keys"),
        (KeyPlan({"janitor": KeySet((PrivateKey(b"j" * 32).public,))}), "janitor"),
        (KeyPlan(groups=[[PrivateKey(b"j" * 32).public]]), "nobody who may approve"),
    ],
)
def test_a_plan_that_means_nothing_is_refused(
    office: Office, plan: KeyPlan, why: str
) -> None:
    with pytest.raises(InvalidError, match=why):
        office.propose(plan)


def _propose(office: Office, release: object = SECOND) -> str:
    with office.database.write() as session:
        return proposing.propose_release(
            session,
            release,  # type: ignore[arg-type]
            slots=["digits"],
            actor="user:op",
            now_ms=office.now,
        ).id


def _only_open(office: Office) -> str:
    with office.database.read() as session:
        roles = store.newest_of_all(session)
        (found,) = store.open_proposals(session, {"root", *(row.role for row in roles)})
        return found.id
