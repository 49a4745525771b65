"""What the director signs, and that it signs once."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import Session, select
from tests.support.fleet import NOW, FleetUnderTest, begin, id_of, make_release
from tests.support.server import make_database

from modelfleet_manifests.assignment import Assignment, ByHold
from modelfleet_manifests.deployment import Admit, Deployment, SlotSteps, Step, Tighten
from modelfleet_manifests.document import cap_of, read
from modelfleet_manifests.envelope import seal, unseal
from modelfleet_manifests.errors import (
    AddressError,
    FormatError,
    LimitError,
    SignatureError,
)
from modelfleet_manifests.header import Header, Order
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.topics import deployment_topic, device_topic
from modelfleet_server.bridge.tables import Outbox
from modelfleet_server.trust import director, renewing
from modelfleet_server.trust.director import Director, Issued
from modelfleet_server.trust.drafting import LIFE_MS, Draft
from modelfleet_server.trust.tables import DirectorDocument, DirectorTopic

GROUP = "ab" * 16
LONG = "a" * 63 + "/" + "b" * 63
TOPIC = deployment_topic(GROUP)


@pytest.fixture
def signer(fleet: FleetUnderTest) -> Director:
    return Director(fleet.director.signer, draw=lambda n: n // 2)


def _empty(header: Header) -> Deployment:
    return Deployment(header=header, slots={}, left=[])


def _publish(
    session: Session,
    signer: Director,
    now_ms: int = NOW,
    build: Callable[[Header], Deployment] = _empty,
) -> Issued:
    draft = Draft(TOPIC, build, group=GROUP)
    return director.publish(session, signer, [draft], now_ms=now_ms)[0]


def _sent(session: Session, topic: str) -> bytes:
    session.expire_all()
    return session.exec(select(Outbox.payload).where(Outbox.topic == topic)).one()


def test_a_document_is_signed_addressed_and_put_into_the_outbox(
    session: Session, signer: Director
) -> None:
    issued = _publish(session, signer)
    payload = unseal(issued.envelope, "deployment", [signer.public], cap=32 * 1024)
    header = read(payload, Deployment, "deployment", cap=32 * 1024).header
    assert (header.group, header.type) == (GROUP, "deployment")
    assert header.fleet == signer.fleet
    assert (header.issued, header.expires) == (NOW, NOW + LIFE_MS)
    assert issued.order == header.order
    assert _sent(session, TOPIC) == issued.envelope
    assert director.current(session, TOPIC) == issued


def test_an_assignment_names_device_and_enrolment(
    session: Session, signer: Director
) -> None:
    topic = device_topic("cam-1", "assignment")
    draft = Draft(
        topic,
        lambda header: Assignment(
            header=header,
            slots={"detector": ByHold()},
            labels={},
            incarnation=1,
            report_key="1" * 64,
            nonce="2" * 32,
        ),
        device="cam-1",
        enrolment="3" * 32,
    )
    [issued] = director.publish(session, signer, [draft], now_ms=NOW)
    document = issued.document
    assert isinstance(document, Assignment)
    assert (document.header.device, document.header.enrolment) == ("cam-1", "3" * 32)


@settings(max_examples=15, deadline=None)
@given(times=st.lists(st.integers(NOW, NOW + 10), min_size=2, max_size=8))
def test_counters_rise_even_when_the_clock_stands_or_runs_back(
    times: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("counters")
    database = make_database(folder / "db")
    signer = begin(database, folder).director
    with database.write() as session:
        counters = [_publish(session, signer, now).order.counter for now in times]
    database.close()
    assert counters == sorted(set(counters))
    assert all(counter >= now for counter, now in zip(counters, times, strict=True))


def test_resending_sends_the_stored_bytes_and_signs_nothing(
    session: Session, signer: Director
) -> None:
    issued = _publish(session, signer)
    assert director.resend(session, TOPIC)
    assert _sent(session, TOPIC) == issued.envelope
    assert len(session.exec(select(DirectorDocument)).all()) == 1
    assert not director.resend(session, deployment_topic("cd" * 16))


def test_a_cleared_topic_is_empty_and_its_counter_goes_on(
    session: Session, signer: Director
) -> None:
    first = _publish(session, signer)
    director.clear(session, TOPIC)
    assert director.current(session, TOPIC) is None
    assert _sent(session, TOPIC) == b""
    assert renewing.renew(session, signer, NOW + LIFE_MS) == []
    assert _publish(session, signer).order > first.order


def test_what_is_superseded_can_still_be_found_by_its_order(
    session: Session, signer: Director
) -> None:
    first = _publish(session, signer)
    second = _publish(session, signer)
    assert director.find(session, TOPIC, first.order) == first
    assert director.find(session, TOPIC, second.order) == second
    assert director.find(session, TOPIC, Order(0, 1)) is None


@pytest.mark.parametrize(
    "names", [{"group": "cd" * 16}, {"device": "cam-1", "enrolment": "3" * 32}, {}]
)
def test_a_document_for_another_address_than_its_topic_is_not_signed(
    session: Session, signer: Director, names: dict[str, str]
) -> None:
    with pytest.raises(AddressError):
        director.publish(session, signer, [Draft(TOPIC, _empty, **names)], now_ms=NOW)
    assert session.exec(select(DirectorDocument)).all() == []


@pytest.mark.parametrize("topic", ["mf/v1/trust/timestamp", "mf/v1/d/cam-1/report", "x"])
def test_a_topic_of_no_document_is_refused(
    session: Session, signer: Director, topic: str
) -> None:
    draft = Draft(topic, _empty, group=GROUP)
    with pytest.raises(AddressError):
        director.publish(session, signer, [draft], now_ms=NOW)


def test_a_header_other_than_the_given_is_not_signed(
    session: Session, signer: Director
) -> None:
    def build(header: Header) -> Deployment:
        return _empty(msgspec.structs.replace(header, counter=header.counter + 1))

    with pytest.raises(AddressError, match="another header"):
        _publish(session, signer, build=build)


def _step(number: int, version: str = "1.0.0") -> Step:
    return Step(
        id=f"{number:032x}",
        release=ReleaseRef(model=LONG, version=version, id=id_of(make_release(model=LONG))),
        admit=Admit(
            salt="0" * 32,
            to="all",
            enrolments=[f"{n:032x}" for n in range(64)],
            labels={},
        ),
        gates=Tighten(),
    )


def test_a_value_that_devices_would_refuse_is_not_signed(
    session: Session, signer: Director
) -> None:
    def build(header: Header) -> Deployment:
        return Deployment(
            header=header, slots={"a": SlotSteps(steps=[_step(0, "one")])}, left=[]
        )

    with pytest.raises(FormatError):
        _publish(session, signer, build=build)


def test_a_document_too_large_for_its_topic_is_not_signed(
    session: Session, signer: Director, fleet: FleetUnderTest
) -> None:
    fleet.release(session, model=LONG)

    def build(header: Header) -> Deployment:
        slots = {f"slot-{n}": SlotSteps(steps=[_step(n)]) for n in range(9)}
        return Deployment(header=header, slots=slots, left=[])

    with pytest.raises(LimitError, match=f"at most {cap_of('deployment')}"):
        _publish(session, signer, build=build)
    assert director.current(session, TOPIC) is None


def test_a_document_is_renewed_between_forty_and_sixty_per_cent_of_its_life(
    session: Session, fleet: FleetUnderTest
) -> None:
    for draw, share in ((0, 40), (-1, 60)):
        signer = Director(fleet.director.signer, draw=lambda n, d=draw: d % n)  # type: ignore[misc]
        issued = _publish(session, signer)
        row = session.exec(select(DirectorTopic)).one()
        session.refresh(row)
        assert row.renew_ms is not None
        assert abs(row.renew_ms - issued.issued_ms - LIFE_MS * share // 100) <= 1


def test_renewing_keeps_the_content_and_raises_the_order(
    session: Session, signer: Director
) -> None:
    first = _publish(session, signer)
    later = NOW + LIFE_MS // 2
    assert renewing.renew(session, signer, later - 1) == []
    (second,) = renewing.renew(session, signer, later)
    assert second.order > first.order
    assert second.expires_ms == later + LIFE_MS
    before, after = first.document, second.document
    assert isinstance(before, Deployment)
    assert isinstance(after, Deployment)
    assert after.slots == before.slots
    assert renewing.renew(session, signer, later) == []


def test_a_document_changed_in_the_database_is_not_signed_anew(
    session: Session, signer: Director
) -> None:
    _publish(session, signer)
    row = session.exec(select(DirectorDocument)).one()
    row.envelope = seal("deployment", b'{"header":{}}', [PrivateKey(b"t" * 32)])
    session.add(row)
    session.flush()
    assert renewing.renew(session, signer, NOW + LIFE_MS) == []
    assert len(session.exec(select(DirectorDocument)).all()) == 1


def test_another_key_does_not_verify(session: Session, signer: Director) -> None:
    issued = _publish(session, signer)
    with pytest.raises(SignatureError):
        unseal(issued.envelope, "deployment", [PrivateKey.generate().public], cap=32 * 1024)
