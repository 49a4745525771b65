"""Floors and authorised downgrades: proposed on a server, signed by people, on a device."""

import pytest
from tests.support.fleet import id_of, make_release
from tests.support.people import Office, TrustDevice

from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.release import Release
from modelfleet_manifests.trust import Refusal, SlotRule, TrustView, judge
from modelfleet_server.kit.errors import ConflictError, InvalidError, NotFoundError
from modelfleet_server.trust import flooring
from modelfleet_server.trust.domain import State
from modelfleet_server.trust.view import read_view

FIRST = make_release("1.0.0")
SECOND = make_release("1.1.0", rollback_to=["1.0.0"])
MODEL = FIRST.model


def propose(office: Office, floor: str | None, model: str = MODEL) -> str:
    with office.database.write() as session:
        return flooring.propose_floor(
            session, model, floor, "leaks", actor="user:op", now_ms=office.now
        ).id


def refusal(device: TrustDevice, release: Release) -> Refusal | None:
    """Say why a device that ran the second release to the end may not run `release`."""
    state = device.state
    view = TrustView(
        releases={id_of(one): one for one in (FIRST, SECOND)},
        slots={
            name: tuple(SlotRule(one.model, one.schema) for one in rules)
            for name, rules in state.slots.items()
        },
        floors=state.floors,
    )
    return judge(
        id_of(release), "digits", view, Facts(), frozenset({id_of(SECOND)})
    ).refusal


def test_a_floor_ends_downgrades_and_lowering_it_authorises_them(
    office: Office, device: TrustDevice
) -> None:
    assert office.release(SECOND, office.solo) is State.PUBLISHED
    device.refresh(FIRST, SECOND)
    assert refusal(device, FIRST) is None  # the second release names it in `rollback_to`
    assert office.sign(propose(office, "1.1.0"), office.solo) is State.PUBLISHED
    device.refresh()
    assert refusal(device, FIRST) is Refusal.BELOW_FLOOR
    assert refusal(device, SECOND) is None
    with office.database.read() as session:
        view = read_view(session, now_ms=office.now)
    assert view.floors == device.state.floors == {MODEL: "1.1.0"}
    assert office.sign(propose(office, "1.0.0"), office.solo) is State.PUBLISHED
    device.refresh()
    assert refusal(device, FIRST) is None
    assert office.sign(propose(office, None), office.solo) is State.PUBLISHED
    device.refresh()
    assert device.state.floors == {}


def test_a_floor_that_nobody_signed_changes_nothing(
    office: Office, device: TrustDevice
) -> None:
    proposal = propose(office, "9.0.0")
    device.refresh()
    assert device.state.floors == {}
    (stranger,) = office.hire("eve")
    with pytest.raises(Exception, match="sign"):
        office.sign(proposal, stranger)


def test_what_is_no_floor_is_refused_by_name(office: Office) -> None:
    with pytest.raises(InvalidError, match="no version"):
        propose(office, "1.x")
    with pytest.raises(NotFoundError, match="demo/nothing"):
        propose(office, "1.0.0", "demo/nothing")
    with pytest.raises(NotFoundError, match="revocations"):
        propose(office, "1.0.0", "revocations")
    with pytest.raises(ConflictError, match="does not exist"):
        propose(office, None)
