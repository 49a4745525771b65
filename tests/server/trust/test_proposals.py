"""Proposals: who may sign, how many must, and what is published then."""

import json
from itertools import product

import pytest
from securesystemslib.signer import Signature
from sqlmodel import Session, select
from tests.support.fleet import ACTOR, NOW, FleetUnderTest, id_of, make_release

from modelfleet_manifests.errors import BadNameError, FormatError
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import Release
from modelfleet_manifests.topics import TIMESTAMP
from modelfleet_server.audit import service as audit
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.bridge.tables import Outbox
from modelfleet_server.kit.errors import (
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from modelfleet_server.trust import (
    approving,
    delegations,
    proposals,
    proposing,
    repository,
    rolefile,
    store,
)
from modelfleet_server.trust.approver import ApproverKeys
from modelfleet_server.trust.delegations import KeySet
from modelfleet_server.trust.domain import (
    MOVES,
    Event,
    ProposalClosedError,
    RoleSignature,
    State,
    after,
)
from modelfleet_server.trust.proposals import BadSignatureError
from modelfleet_server.trust.proposing import ProposalPendingError, ReleaseExistsError
from modelfleet_server.trust.tables import Proposal


def _propose(session: Session, release: Release | None = None) -> Proposal:
    return proposing.propose_release(
        session, release or make_release(), slots=["digits"], actor=ACTOR, now_ms=NOW
    )


def _signatures(
    session: Session, fleet: FleetUnderTest, proposal: Proposal
) -> list[RoleSignature]:
    held = fleet.in_force(session, proposal)
    return approving.sign(fleet.copy_of(session, proposal), fleet.approver, held)


def _attach(
    session: Session,
    fleet: FleetUnderTest,
    proposal: Proposal,
    signatures: list[RoleSignature],
) -> State:
    proposals.attach(
        session, fleet.publisher, proposal.id, signatures, actor=ACTOR, now_ms=NOW
    )
    return store.get_proposal(session, proposal.id).state


@pytest.mark.parametrize(
    ("state", "event"), sorted(set(product(State, Event)) - set(MOVES))
)
def test_any_move_not_in_the_table_is_refused(state: State, event: Event) -> None:
    with pytest.raises(ProposalClosedError):
        after(state, event)


def test_a_first_release_also_delegates_its_namespace_and_its_model(
    session: Session, fleet: FleetUnderTest
) -> None:
    first = _propose(session)
    roles = [one.role for one in store.roles_of(session, first.id)]
    assert roles == ["targets", "demo", "demo/digits"]
    fleet.approve(session, first)
    second = _propose(session, make_release("1.1.0"))
    assert [one.role for one in store.roles_of(session, second.id)] == ["demo/digits"]
    other = _propose(session, make_release(model="demo/letters"))
    roles = [one.role for one in store.roles_of(session, other.id)]
    assert roles == ["targets", "demo", "demo/letters"]


def test_publishing_is_one_step_for_metadata_topics_and_audit(
    session: Session, fleet: FleetUnderTest
) -> None:
    proposal = _propose(session)
    assert store.find_newest(session, "demo/digits") is None
    assert _attach(session, fleet, proposal, _signatures(session, fleet, proposal)) is (
        State.PUBLISHED
    )
    row = store.find_newest(session, "timestamp")
    assert row is not None
    assert row.version == 2
    sent = session.exec(select(Outbox.payload).where(Outbox.topic == TIMESTAMP)).one()
    assert sent == row.data
    actions = [one.action for one in session.exec(select(AuditEntry))]
    assert actions[-5:] == [
        "proposal.opened",
        *["proposal.signed"] * 3,
        "proposal.published",
    ]
    audit.verify(session)
    approvals = store.approvals_of(session, "demo/digits@1.0.0")
    assert {one.actor for _, one in approvals} == {ACTOR}


def test_roles_signed_one_by_one_publish_with_the_last(
    session: Session, fleet: FleetUnderTest
) -> None:
    proposal = _propose(session)
    *most, last = _signatures(session, fleet, proposal)
    for one in most:
        assert _attach(session, fleet, proposal, [one, one]) is State.OPEN
        assert _attach(session, fleet, proposal, [one]) is State.OPEN
    assert [one.missing for one in proposals.progress(session, proposal.id)] == [0, 0, 1]
    assert _attach(session, fleet, proposal, [last]) is State.PUBLISHED


def test_k_minus_one_signatures_publish_nothing_and_the_same_key_twice_is_one(
    session: Session, fleet: FleetUnderTest
) -> None:
    keys = [PrivateKey(bytes([n]) * 32) for n in range(3)]
    three = KeySet(tuple(key.public for key in keys), threshold=2)
    targets = repository.make_targets(
        dict.fromkeys(("revocations", "stops", "director", "time"), three), three, NOW
    )
    payload = b"anything"
    signed = {key.public.key_id: key.sign(payload).hex() for key in keys}
    ids = list(signed)
    assert delegations.missing_signers(targets, "stops", payload, {}) == 2
    for count, missing in ((1, 1), (2, 0), (3, 0)):
        some = {one: signed[one] for one in ids[:count]}
        assert delegations.missing_signers(targets, "stops", payload, some) == missing
    twice = {ids[0]: signed[ids[0]], ids[1]: signed[ids[0]]}
    assert delegations.missing_signers(targets, "stops", payload, twice) == 1


def test_one_public_key_under_two_key_ids_counts_once(fleet: FleetUnderTest) -> None:
    key, other = PrivateKey(b"k" * 32), PrivateKey(b"o" * 32)
    two = KeySet((key.public, other.public), threshold=2)
    targets = repository.make_targets(
        dict.fromkeys(("revocations", "stops", "director", "time"), two), two, NOW
    )
    assert targets.delegations is not None
    value = json.loads(rolefile.payload_of(targets))
    body = dict(value["delegations"]["keys"][key.public.key_id])
    value["delegations"]["keys"]["second-id"] = body
    for role in value["delegations"]["roles"]:
        role["keyids"] = [key.public.key_id, "second-id"]
    forged = rolefile.parse_targets(json.dumps(value).encode())
    signature = key.sign(b"payload").hex()
    both = {key.public.key_id: signature, "second-id": signature}
    assert forged.get_verification_result(
        "stops", b"payload", {k: Signature(k, v) for k, v in both.items()}
    ).verified
    assert delegations.missing_signers(forged, "stops", b"payload", both) == 1


def test_a_signature_that_does_not_count_is_refused_and_none_of_the_lot_is_kept(
    session: Session, fleet: FleetUnderTest
) -> None:
    proposal = _propose(session)
    good = _signatures(session, fleet, proposal)
    stranger = PrivateKey.generate()
    payload = store.roles_of(session, proposal.id)[0].payload
    one = good[0]
    for bad, why in (
        (one._replace(signature=good[1].signature), "does not verify"),
        (one._replace(signature="zz"), "does not verify"),
        (one._replace(role="root"), "does not change the role"),
        (one._replace(role="demo"), "may not sign demo"),
        (
            RoleSignature("targets", stranger.public.key_id, stranger.sign(payload).hex()),
            "may not sign targets",
        ),
    ):
        with pytest.raises(BadSignatureError, match=why):
            _attach(session, fleet, proposal, [good[1], bad])
    assert store.signatures_of(session, proposal.id) == []


def test_a_stolen_online_key_signs_no_release(
    session: Session, fleet: FleetUnderTest
) -> None:
    proposal = _propose(session)
    thief = PrivateKey.generate()
    for row in store.roles_of(session, proposal.id):
        one = RoleSignature(row.role, fleet.director.public.key_id, thief.sign(b"").hex())
        with pytest.raises(BadSignatureError):
            _attach(session, fleet, proposal, [one])


def test_a_closed_proposal_takes_no_more_signatures(
    session: Session, fleet: FleetUnderTest
) -> None:
    proposal = _propose(session)
    signatures = _signatures(session, fleet, proposal)
    proposals.withdraw(session, fleet.publisher, proposal.id, actor=ACTOR, now_ms=NOW)
    with pytest.raises(ProposalClosedError):
        _attach(session, fleet, proposal, signatures)
    assert store.find_newest(session, "demo/digits") is None
    with pytest.raises(NotFoundError):
        store.get_proposal(session, "none")


def test_two_open_proposals_never_change_the_same_role(
    session: Session, fleet: FleetUnderTest
) -> None:
    first = _propose(session)
    with pytest.raises(ProposalPendingError, match=first.id):
        _propose(session, make_release("1.1.0"))
    proposals.withdraw(session, fleet.publisher, first.id, actor=ACTOR, now_ms=NOW)
    fleet.approve(session, _propose(session, make_release("1.1.0")))


def test_a_released_version_is_never_proposed_again(
    session: Session, fleet: FleetUnderTest
) -> None:
    release = fleet.release(session)
    with pytest.raises(ReleaseExistsError) as caught:
        _propose(session)
    assert caught.value.data["release"] == id_of(release)


def test_a_statement_that_devices_would_refuse_is_not_proposed(
    session: Session, fleet: FleetUnderTest
) -> None:
    with pytest.raises(FormatError):
        _propose(session, make_release("one"))
    for model in ("root/x", "demo/Digits", "demo/*"):
        with pytest.raises((BadNameError, FormatError)):
            _propose(session, make_release(model=model))
    with pytest.raises(BadNameError):
        proposing.propose_release(
            session, make_release(), slots=["no slot"], actor=ACTOR, now_ms=NOW
        )
    with pytest.raises(InvalidError):
        proposing.propose_release(
            session, make_release(), slots=[], actor=ACTOR, now_ms=NOW
        )
    assert session.exec(select(Proposal)).all() == []


def test_roles_are_renewed_with_the_same_content_before_they_expire(
    session: Session, fleet: FleetUnderTest
) -> None:
    fleet.release(session)
    later = NOW + 20 * 86_400_000
    before = store.find_newest(session, "revocations")
    assert before is not None
    proposal = proposing.propose_renewal(
        session, ["targets", "revocations", "stops"], actor=ACTOR, now_ms=later
    )
    lines = fleet.approve(session, proposal, later)
    assert all(line.startswith("Renews ") for line in lines)
    after_ = store.find_newest(session, "revocations")
    assert after_ is not None
    assert (after_.version, after_.expires_ms) == (2, later + 35 * 86_400_000)
    with pytest.raises(InvalidError):
        proposing.propose_renewal(session, ["timestamp"], actor=ACTOR, now_ms=later)


def test_another_fleets_approver_cannot_sign(
    session: Session, fleet: FleetUnderTest
) -> None:
    proposal = _propose(session)
    stranger = ApproverKeys(fleet.fleet, ApproverKeys.generate())
    held = fleet.in_force(session, proposal)
    with pytest.raises(ForbiddenError, match="none of these keys"):
        approving.sign(fleet.copy_of(session, proposal), stranger, held)
