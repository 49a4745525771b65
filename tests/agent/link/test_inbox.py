"""Documents of the director: which are taken, and which attacks are refused."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.solo import SoloFleet, make_step, random_id
from tests.support.solo_device import EnrolledDevice

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.link.inbox import (
    Accepted,
    Inbox,
    NeedsMetadata,
    Outcome,
    Refused,
    Same,
)
from modelfleet_manifests.assignment import Assignment, ByHold
from modelfleet_manifests.document import NotUnderstood
from modelfleet_manifests.header import Minimum
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.topics import deployment_topic, device_topic

GROUP = "c" * 32
OWN = device_topic("dev-1", "assignment")
DEPLOYMENT = deployment_topic(GROUP)
REF = ReleaseRef(model="demo/digits", version="1.0.0", id="d" * 64)


def open_inbox(device: EnrolledDevice) -> Inbox:
    return Inbox(device.directory, device.me, lambda: device.state)


@pytest.fixture
def inbox(device: EnrolledDevice) -> Inbox:
    return open_inbox(device)


def assign(device: EnrolledDevice, **changes: Any) -> bytes:
    return device.fleet.assignment(
        "dev-1", device.me.enrolment, {"main": GROUP}, labels={"site": "oslo"}, **changes
    )


def deploy(fleet: SoloFleet, group: str = GROUP, **changes: Any) -> bytes:
    return fleet.deployment(group, {"main": [make_step(REF)]}, **changes)


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.code


def test_documents_are_taken_and_give_what_the_resolver_needs(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    assert inbox.nonce == "0" * 32
    assert isinstance(inbox.receive(OWN, assign(device)), Accepted)
    assert inbox.groups() == {GROUP}
    assert isinstance(inbox.receive(DEPLOYMENT, deploy(device.fleet)), Accepted)
    documents = inbox.documents()
    assert isinstance(documents.assignment, Assignment)
    assert documents.assignment.labels == {"site": "oslo"}
    assert documents.assignment.nonce == inbox.nonce
    assert set(documents.deployments) == {GROUP}
    assert set(inbox.held()) == {OWN, DEPLOYMENT}
    assert inbox.held()[DEPLOYMENT].counter == device.fleet.counter


def test_an_offline_boot_resolves_from_what_is_on_disk(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    inbox.receive(OWN, assign(device))
    inbox.receive(DEPLOYMENT, deploy(device.fleet))
    again = open_inbox(device)
    assert again.documents() == inbox.documents()
    assert again.held() == inbox.held()


def test_the_same_document_again_changes_nothing(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    document = assign(device)
    inbox.receive(OWN, document)
    assert inbox.receive(OWN, document) == Same(OWN)


def test_an_empty_retained_payload_means_nothing(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    inbox.receive(OWN, assign(device))
    assert inbox.receive(OWN, b"") == Same(OWN)
    assert inbox.documents().assignment is not None


def test_another_devices_assignment_is_refused(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    other = device.fleet.assignment("dev-2", random_id(), {})
    assert code(inbox.receive(OWN, other)) == "E_ADDRESS"
    assert code(inbox.receive(device_topic("dev-2", "assignment"), other)) == "E_ADDRESS"


def test_an_assignment_of_an_earlier_enrolment_is_refused(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    old = device.fleet.assignment("dev-1", random_id(), {})
    assert code(inbox.receive(OWN, old)) == "E_ADDRESS"


def test_a_document_of_another_fleet_is_refused(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    assert code(inbox.receive(OWN, assign(device, fleet="e" * 64))) == "E_ADDRESS"


def test_a_document_signed_by_another_key_is_refused(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    forged = assign(device, key=PrivateKey.generate())
    assert code(inbox.receive(OWN, forged)) == "E_SIGNATURE"


def test_the_key_of_another_role_does_not_direct(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    forged = assign(device, key=device.fleet.keys["timestamp"])
    assert code(inbox.receive(OWN, forged)) == "E_SIGNATURE"


def test_an_older_counter_is_refused(device: EnrolledDevice, inbox: Inbox) -> None:
    old, new = assign(device), assign(device)
    inbox.receive(OWN, new)
    assert code(inbox.receive(OWN, old)) == "E_OLDER"
    assert code(open_inbox(device).receive(OWN, old)) == "E_OLDER"


def test_an_equal_counter_with_another_body_is_refused(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    inbox.receive(OWN, assign(device))
    held = inbox.held()
    twin = assign(device, counter=device.fleet.counter)
    assert code(inbox.receive(OWN, twin)) == "E_EQUIVOCATION"
    assert inbox.held() == held


def test_each_document_on_another_topic_is_refused(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    assignment, deployment = assign(device), deploy(device.fleet)
    inbox.receive(OWN, assignment)
    assert code(inbox.receive(DEPLOYMENT, assignment)) == "E_FORMAT"
    assert code(inbox.receive(OWN, deployment)) == "E_FORMAT"
    for topic in ("mf/v1/trust/recalls", "mf/v1/d/dev-1/report", "other", "mf/v1/epoch"):
        assert code(inbox.receive(topic, assignment)) == "E_ADDRESS"


def test_the_deployment_of_a_group_that_does_not_govern_is_refused(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    assert code(inbox.receive(DEPLOYMENT, deploy(device.fleet))) == "E_ADDRESS"
    inbox.receive(OWN, assign(device))
    other = "f" * 32
    foreign = deploy(device.fleet, other)
    assert code(inbox.receive(deployment_topic(other), foreign)) == "E_ADDRESS"
    assert code(inbox.receive(DEPLOYMENT, foreign)) == "E_ADDRESS"


def test_leaving_a_group_forgets_its_deployment(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    inbox.receive(OWN, assign(device))
    inbox.receive(DEPLOYMENT, deploy(device.fleet))
    left = device.fleet.assignment("dev-1", device.me.enrolment, {"main": ByHold()})
    inbox.receive(OWN, left)
    assert inbox.documents().deployments == {}
    assert open_inbox(device).documents().deployments == {}


def test_a_document_that_is_not_understood_replaces_the_held_one(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    inbox.receive(OWN, assign(device))
    inbox.receive(DEPLOYMENT, deploy(device.fleet))
    newer = deploy(device.fleet, needs=["shadow"])
    outcome = inbox.receive(DEPLOYMENT, newer)
    assert isinstance(outcome, Accepted)
    held = open_inbox(device).documents().deployments[GROUP]
    assert isinstance(held, NotUnderstood)
    assert held.feature == "shadow"


def test_an_assignment_that_is_not_understood_keeps_the_deployments(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    inbox.receive(OWN, assign(device))
    inbox.receive(DEPLOYMENT, deploy(device.fleet))
    inbox.receive(OWN, assign(device, v=1))
    assert set(inbox.documents().deployments) == {GROUP}
    assert set(open_inbox(device).documents().deployments) == {GROUP}


def test_a_newer_epoch_asks_for_metadata_and_counts_after_it(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    device.fleet.rotate_director()
    device.fleet.publish()
    document = assign(device)
    assert inbox.receive(OWN, document) == NeedsMetadata(OWN, 2)
    assert inbox.recheck() == [NeedsMetadata(OWN, 2)]
    device.refresh()
    (outcome,) = inbox.recheck()
    assert isinstance(outcome, Accepted)
    assert inbox.recheck() == []


def test_a_forged_newer_epoch_is_refused_once_the_metadata_is_known(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    forged = assign(device, epoch=2, key=PrivateKey.generate())
    assert inbox.receive(OWN, forged) == NeedsMetadata(OWN, 2)
    device.fleet.rotate_director()
    device.fleet.publish()
    device.refresh()
    (outcome,) = inbox.recheck()
    assert code(outcome) == "E_SIGNATURE"
    assert inbox.recheck() == []


def test_what_a_stranger_sends_with_newer_epochs_is_bounded(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    inbox.receive(OWN, assign(device, v=1))  # so that any group may be heard
    outcomes = [
        inbox.receive(
            deployment_topic(group),
            deploy(device.fleet, group, epoch=9, key=PrivateKey.generate()),
        )
        for group in (random_id() for _ in range(40))
    ]
    assert sum(isinstance(one, NeedsMetadata) for one in outcomes) == 17
    assert {one.code for one in outcomes if isinstance(one, Refused)} == {"E_EPOCH"}


def test_a_document_of_a_revoked_director_key_is_dropped(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    inbox.receive(OWN, assign(device))
    device.fleet.rotate_director()
    device.fleet.publish()
    device.refresh()
    assert [code(one) for one in inbox.recheck()] == ["E_SIGNATURE"]
    assert inbox.documents().assignment is None
    assert open_inbox(device).documents().assignment is None


def test_a_document_rotten_on_disk_is_dropped_at_boot(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    inbox.receive(OWN, assign(device))
    (path,) = (device.directory / "documents").iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    assert open_inbox(device).documents().assignment is None
    assert not path.exists()


def test_min_that_is_not_met_is_left_to_the_resolver(
    device: EnrolledDevice, inbox: Inbox
) -> None:
    document = assign(device, min=Minimum(timestamp=99))
    assert isinstance(inbox.receive(OWN, document), Accepted)


def test_a_full_disk_keeps_the_document_that_was_held(
    device: EnrolledDevice, inbox: Inbox, tmp_path: Path
) -> None:
    inbox.receive(OWN, assign(device))
    before = inbox.documents()

    def fail(operation: str, path: Path) -> None:
        if operation == "write":
            raise RetryableError("E_NO_SPACE", f"cannot write {path}")

    stop = fsio.watch(fail)
    try:
        with pytest.raises(RetryableError):
            inbox.receive(OWN, assign(device))
    finally:
        stop()
    assert inbox.documents() == before
    assert open_inbox(device).documents() == before


def test_more_than_the_cap_is_not_looked_at(device: EnrolledDevice, inbox: Inbox) -> None:
    assert code(inbox.receive(OWN, b"{" + b" " * (16 * 1024))) == "E_SIZE"


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_flipped_byte_is_refused(
    device: EnrolledDevice, inbox: Inbox, data: st.DataObject
) -> None:
    document = bytearray(assign(device))
    place = data.draw(st.integers(0, len(document) - 1))
    document[place] ^= 1 << data.draw(st.integers(0, 7))
    outcome = inbox.receive(OWN, bytes(document))
    assert isinstance(outcome, Refused | NeedsMetadata)
    assert inbox.documents().assignment is None


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(payload=st.binary(max_size=300))
def test_any_other_bytes_are_refused(inbox: Inbox, payload: bytes) -> None:
    outcome = inbox.receive(OWN, payload)
    assert isinstance(outcome, Refused) if payload else outcome == Same(OWN)
