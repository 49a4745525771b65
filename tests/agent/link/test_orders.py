"""What was held is not forgotten with the documents; where all is lost, a nonce decides."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.support.solo import make_step, random_id
from tests.support.solo_device import EnrolledDevice
from tests.support.solo_http import FleetServer

from modelfleet_agent import fsio
from modelfleet_agent.enrol import enrol
from modelfleet_agent.link.inbox import (
    Accepted,
    Inbox,
    NeedsMetadata,
    Outcome,
    Refused,
    Same,
)
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.topics import deployment_topic, device_topic

GROUP = "c" * 32
OWN = device_topic("dev-1", "assignment")
DEPLOYMENT = deployment_topic(GROUP)
REF = ReleaseRef(model="demo/digits", version="1.0.0", id="d" * 64)


def open_inbox(device: EnrolledDevice) -> Inbox:
    return Inbox(device.directory, device.me, lambda: device.state)


def assign(device: EnrolledDevice, **changes: Any) -> bytes:
    return device.fleet.assignment("dev-1", device.me.enrolment, {"main": GROUP}, **changes)


def deploy(device: EnrolledDevice) -> bytes:
    return device.fleet.deployment(GROUP, {"main": [make_step(REF)]})


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Refused), outcome
    return outcome.code


def lose(device: EnrolledDevice, *names: str) -> None:
    for name in names:
        path = device.directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.fixture
def old(device: EnrolledDevice) -> tuple[bytes, bytes]:
    """Documents that were in force before those that the device holds."""
    inbox = open_inbox(device)
    old = assign(device), deploy(device)
    for topic, make in ((OWN, assign), (DEPLOYMENT, deploy)):
        assert isinstance(inbox.receive(topic, make(device)), Accepted)
    return old


def test_after_enrolment_nothing_is_asked_of_the_first_assignment(
    device: EnrolledDevice,
) -> None:
    inbox = open_inbox(device)
    assert inbox.challenge == ""
    assert isinstance(inbox.receive(OWN, assign(device)), Accepted)


def test_lost_documents_are_not_replaced_by_older_ones(
    device: EnrolledDevice, old: tuple[bytes, bytes]
) -> None:
    lose(device, "documents")
    inbox = open_inbox(device)
    assert inbox.challenge == ""
    assert code(inbox.receive(OWN, old[0])) == "E_OLDER"
    assert isinstance(inbox.receive(OWN, assign(device)), Accepted)
    assert code(inbox.receive(DEPLOYMENT, old[1])) == "E_OLDER"


def test_what_was_held_is_taken_again_and_its_like_is_not(device: EnrolledDevice) -> None:
    held = assign(device)
    open_inbox(device).receive(OWN, held)
    lose(device, "documents")
    inbox = open_inbox(device)
    device.fleet.counter -= 1
    assert code(inbox.receive(OWN, assign(device, labels={"a": "b"}))) == "E_EQUIVOCATION"
    assert isinstance(inbox.receive(OWN, held), Accepted)


def test_lost_orders_are_known_from_the_documents(
    device: EnrolledDevice, old: tuple[bytes, bytes]
) -> None:
    lose(device, "orders")
    inbox = open_inbox(device)
    assert inbox.challenge == ""
    assert code(inbox.receive(OWN, old[0])) == "E_OLDER"
    lose(device, "documents")
    assert code(open_inbox(device).receive(OWN, old[0])) == "E_OLDER"


def test_where_both_are_lost_only_an_assignment_made_since_counts(
    device: EnrolledDevice, old: tuple[bytes, bytes]
) -> None:
    lose(device, "documents", "orders")
    inbox = open_inbox(device)
    challenge = inbox.challenge
    assert len(challenge) == 32
    assert code(inbox.receive(OWN, old[0])) == "E_ECHO"
    assert code(inbox.receive(OWN, assign(device))) == "E_ECHO"
    assert code(inbox.receive(OWN, assign(device, echo=random_id()))) == "E_ECHO"
    assert code(inbox.receive(DEPLOYMENT, old[1])) == "E_ADDRESS"
    assert open_inbox(device).challenge == challenge  # it outlives a restart
    answer = assign(device, echo=challenge)
    inbox = open_inbox(device)
    assert isinstance(inbox.receive(OWN, answer), Accepted)
    assert inbox.challenge == ""
    assert isinstance(inbox.receive(OWN, assign(device)), Accepted)
    assert code(inbox.receive(OWN, answer)) == "E_OLDER"
    assert open_inbox(device).challenge == ""


def test_another_enrolment_begins_anew(
    device: EnrolledDevice, server: FleetServer, old: tuple[bytes, bytes]
) -> None:
    device.fleet.counter -= 1000  # of another fleet, say
    server.claims["again"] = "dev-1"
    device.me = enrol(server.url, "again", device.directory, Facts(), force=True)
    inbox = open_inbox(device)
    assert inbox.challenge == ""
    assert isinstance(inbox.receive(OWN, assign(device)), NeedsMetadata)
    device.refresh()
    assert isinstance(inbox.receive(OWN, assign(device)), Accepted)


def test_an_answer_that_is_not_signed_counts_for_nothing(
    device: EnrolledDevice, old: tuple[bytes, bytes]
) -> None:
    lose(device, "documents", "orders")
    inbox = open_inbox(device)
    forged = assign(device, echo=inbox.challenge, key=device.fleet.keys["time"])
    assert code(inbox.receive(OWN, forged)) == "E_SIGNATURE"
    assert inbox.challenge


@pytest.mark.parametrize("cut", range(6))
def test_cut_at_any_write_a_document_comes_again_and_none_gets_older(
    device: EnrolledDevice, old: tuple[bytes, bytes], cut: int
) -> None:
    class CutError(BaseException):
        """The power is gone."""

    left = cut

    def kill(_operation: str, _path: Path) -> None:
        nonlocal left
        if left == 0:
            raise CutError
        left -= 1

    inbox, new = open_inbox(device), assign(device)
    before = dict(inbox.held())
    stop = fsio.watch(kill)
    try:
        inbox.receive(OWN, new)
    except CutError:
        pass
    finally:
        stop()
    again = open_inbox(device)
    assert again.challenge == ""
    held = again.held().get(OWN)
    assert held is None or held.counter >= before[OWN].counter
    assert code(again.receive(OWN, old[0])) == "E_OLDER"
    assert isinstance(again.receive(OWN, new), Accepted | Same)
    assert again.held()[OWN].counter == device.fleet.counter
