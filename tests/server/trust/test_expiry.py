"""What ends soon is proposed anew by itself, and keeps nothing else waiting."""

from sqlmodel import Session, select
from tests.support.fleet import ACTOR, NOW, FleetUnderTest, id_of

from modelfleet_server.trust import expiry, proposing, recalling, store
from modelfleet_server.trust.domain import Kind, State
from modelfleet_server.trust.tables import Proposal

DAY_MS = 86_400_000
LATER = NOW + 22 * DAY_MS
"""Thirteen days before revocations and stops end."""


def test_nothing_is_proposed_before_fourteen_days_are_left(
    session: Session, fleet: FleetUnderTest
) -> None:
    fleet.release(session)
    assert expiry.propose_due(session, NOW + 20 * DAY_MS) is None
    assert [one.role for one in expiry.read_endings(session, NOW) if one.ends_soon] == []


def test_what_ends_is_proposed_once_and_lives_on_when_it_is_signed(
    session: Session, fleet: FleetUnderTest
) -> None:
    proposal = expiry.propose_due(session, LATER)
    assert proposal is not None
    assert (proposal.subject, proposal.proposed_by) == (
        "revocations, stops", "system:trust",
    )  # fmt: skip
    assert expiry.propose_due(session, LATER) is None
    fleet.approve(session, proposal, LATER)
    assert expiry.propose_due(session, LATER) is None
    row = store.find_newest(session, "stops")
    assert row is not None
    assert row.expires_ms == LATER + 35 * DAY_MS


def test_an_open_renewal_keeps_no_recall_waiting(
    session: Session, fleet: FleetUnderTest
) -> None:
    release = fleet.release(session)
    renewal = expiry.propose_due(session, LATER)
    assert renewal is not None
    fleet.recall(session, id_of(release), Kind.STOP, LATER)
    assert renewal.state is State.WITHDRAWN
    again = expiry.propose_due(session, LATER)
    assert again is not None
    assert again.subject == "revocations"  # the stops have a new life already


def test_an_open_recall_is_not_pushed_aside_by_a_renewal(
    session: Session, fleet: FleetUnderTest
) -> None:
    what = recalling.find_recalled(session, id_of(fleet.release(session)))
    recall = recalling.propose_recall(
        session, Kind.STOP, what, "was wrong", actor=ACTOR, now_ms=LATER
    )
    renewal = expiry.propose_due(session, LATER)
    assert renewal is not None
    assert renewal.subject == "revocations"
    assert recall.state is State.OPEN


def test_the_root_and_what_the_server_signs_are_told_and_not_proposed(
    session: Session, fleet: FleetUnderTest
) -> None:
    late = NOW + 700 * DAY_MS
    soon = {one.role for one in expiry.read_endings(session, late) if one.ends_soon}
    assert {"root", "snapshot", "timestamp"} <= soon
    expiry.propose_due(session, late)
    roles = {one.role for one in expiry.read_endings(session, late)}
    changed = {
        row.role
        for proposal in session.exec(select(Proposal))
        for row in store.roles_of(session, proposal.id)
    }
    assert changed == roles - {"root", "snapshot", "timestamp"}


def test_a_release_takes_the_place_of_a_renewal_of_its_roles(
    session: Session, fleet: FleetUnderTest
) -> None:
    fleet.release(session)
    late = NOW + 360 * DAY_MS
    renewal = proposing.propose_renewal(
        session, ["demo", "demo/digits"], actor=ACTOR, now_ms=late
    )
    fleet.release(session, "1.1.0", now_ms=late)
    assert renewal.state is State.WITHDRAWN
