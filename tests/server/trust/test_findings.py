"""What an approver signs of what was found, and who else must, where nothing was found."""

from dataclasses import replace as replaced
from pathlib import Path

import msgspec
import pytest
from sqlmodel import Session
from tests.support.fleet import ACTOR, FleetUnderTest, make_release
from tests.support.people import Office, Person, key_set

from modelfleet_manifests.release import Release
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import ForbiddenError, InvalidError
from modelfleet_server.trust import approving, findings, proposals, proposing, store
from modelfleet_server.trust.approving import InForce, ProposalCopy
from modelfleet_server.trust.domain import Finding, State
from modelfleet_server.trust.findings import NotReproducedError
from modelfleet_server.trust.keyplan import KeyPlan


def release(word: str, version: str = "1.0.0") -> Release:
    """Return a release whose variants are all vouched for by a word."""
    made = make_release(version)
    variants = [msgspec.structs.replace(one, vouched=word) for one in made.variants]
    return msgspec.structs.replace(made, variants=variants)


def all_found(one: Release, word: str) -> dict[str, Finding]:
    return {variant.name: Finding(word, ("the scale",)) for variant in one.variants}


@pytest.mark.parametrize(
    ("stated", "found"),
    [("rebuilt", "rebuilt"), ("audited", "rebuilt"), ("audited", "audited")],
)
def test_as_much_as_the_release_says_or_more_is_signed(stated: str, found: str) -> None:
    one = release(stated)
    lines = findings.judge(one, all_found(one, found))
    assert lines == [f"Built again here: {v.name}, {found}." for v in one.variants]


@pytest.mark.parametrize(
    ("stated", "found"), [("rebuilt", "audited"), ("rebuilt", ""), ("audited", "")]
)
def test_less_than_the_release_says_is_not_signed(stated: str, found: str) -> None:
    one = release(stated)
    with pytest.raises(NotReproducedError, match="NOT REPRODUCED") as caught:
        findings.judge(one, all_found(one, found))
    assert f"--vouch x86-avx2-fp32={found or 'waived'}" in caught.value.hint
    with pytest.raises(NotReproducedError, match="nobody built it again"):
        findings.judge(one, {})


def test_what_is_waived_is_said_loudly_and_not_built() -> None:
    one = release("waived")
    assert findings.to_rebuild(one) == []
    assert all(line.startswith("NOT REPRODUCED") for line in findings.judge(one, {}))


@pytest.fixture
def office(database: Database, fleet: FleetUnderTest, tmp_path: Path) -> Office:
    return Office(fleet, database, tmp_path / "keys" / "online.key")


@pytest.fixture
def people(office: Office) -> list[Person]:
    """Two of three approve, and only the third may waive."""
    people = office.hire("ann", "ben", "eve")
    plan = KeyPlan(
        {"namespaces": key_set("namespaces", people, 2)},
        waivers=[people[2].public("namespaces")],
    )
    assert office.rekey(plan, office.solo) is State.PUBLISHED
    return people


def _propose(office: Office, one: Release) -> str:
    with office.database.write() as session:
        return proposing.propose_release(
            session, one, slots=["digits"], actor=ACTOR, now_ms=office.now
        ).id


def _copy(
    session: Session, office: Office, proposal_id: str
) -> tuple[ProposalCopy, InForce]:
    proposal = store.get_proposal(session, proposal_id)
    copy = office.fleet.copy_of(session, proposal)
    gathered: dict[str, dict[str, str]] = {}
    for one in store.signatures_of(session, proposal_id):
        gathered.setdefault(one.role, {})[one.key_id] = one.signature
    copy = replaced(copy, signatures=gathered)
    return copy, office.fleet.in_force(session, proposal)


def test_a_waived_variant_needs_one_of_the_group_build_waiver(
    office: Office, people: list[Person]
) -> None:
    ann, ben, eve = people
    one = release("waived")
    proposal = _propose(office, one)
    # whatever their clients do, two approvers are not enough for the server ...
    office.sign(proposal, office.solo)  # the officer, for the slot
    assert office.sign(proposal, ann, ben) is State.OPEN
    with office.database.read() as session:
        lacking = {it.role: it.missing for it in proposals.progress(session, proposal)}
    assert lacking["demo/digits"] == 1
    assert office.sign(proposal, eve) is State.PUBLISHED


def test_an_approvers_own_client_does_not_sign_before_somebody_waived(
    office: Office, people: list[Person]
) -> None:
    """... and whatever the server says, an honest client asks for a waiver's signature."""
    ann, _, eve = people
    one = release("waived")
    proposal = _propose(office, one)
    with office.database.read() as session:
        copy, held = _copy(session, office, proposal)
    with pytest.raises(ForbiddenError, match="nobody reproduced"):
        findings.check_waiver(copy, held, ann.keys, one)
    findings.check_waiver(copy, held, eve.keys, one)
    findings.check_waiver(copy, held, ann.keys, release("rebuilt"))
    key = eve.public("namespaces").key_id
    forged = replaced(copy, signatures={"demo/digits": {key: "00" * 64}})
    with pytest.raises(ForbiddenError):
        findings.check_waiver(forged, held, ann.keys, one)
    office.sign(proposal, eve)
    with office.database.read() as session:
        copy, held = _copy(session, office, proposal)
    findings.check_waiver(copy, held, ann.keys, one)


def test_the_group_is_shouted_when_it_changes_and_cannot_be_strangers(
    office: Office, people: list[Person]
) -> None:
    stranger = Person.of("mal", office.fleet.fleet)
    with pytest.raises(InvalidError, match="nobody who may approve"):
        office.propose(KeyPlan(waivers=[stranger.public("namespaces")]))
    proposal = office.propose(KeyPlan(waivers=[people[0].public("namespaces")]))
    with office.database.read() as session:
        copy, held = _copy(session, office, proposal)
    (line,) = approving.describe(copy, held)
    assert line.startswith("CHANGES the group build-waiver to")


def test_a_namespace_has_approvers_of_its_own(office: Office, people: list[Person]) -> None:
    """Ann releases for the plant, and what she signs for the lab counts for nothing."""
    ann, ben, eve = people
    for model in ("demo/digits", "lab/digits"):
        one = make_release(model=model)
        with office.database.write() as session:
            proposal = proposing.propose_release(
                session, one, slots=["digits"], actor=ACTOR, now_ms=office.now
            ).id
        assert office.sign(proposal, office.solo, ben, eve) is State.PUBLISHED
    plan = KeyPlan({"lab": key_set("namespaces", [ben, eve], 1)})
    changed = office.propose(plan)
    with office.database.read() as session:
        roles = [row.role for row in store.roles_of(session, changed)]
    assert roles == ["targets", "lab", "lab/digits"]  # the plant's stay as they are
    assert office.sign(changed, office.solo, eve) is State.PUBLISHED
    with office.database.write() as session:
        proposal = proposing.propose_release(
            session,
            make_release("1.1.0", model="lab/digits"),
            slots=["digits"],
            actor=ACTOR,
            now_ms=office.now,
        ).id
    with pytest.raises(ForbiddenError):
        office.sign(proposal, ann)
    assert office.sign(proposal, ben) is State.PUBLISHED
    with pytest.raises(InvalidError, match="no namespace 'nowhere'"):
        office.propose(KeyPlan({"nowhere": key_set("namespaces", [ann], 1)}))
