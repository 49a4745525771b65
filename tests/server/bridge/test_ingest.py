"""What comes in: batches, one transaction each, acknowledged after the commit."""

import threading
from collections import Counter

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session
from tests.server.bridge.conftest import Rig
from tests.support.brokers import kill
from tests.support.waiting import eventually

from modelfleet_server.bridge import outbox
from modelfleet_server.bridge.message import Message
from modelfleet_server.bridge.service import Bridge, reply
from modelfleet_server.bridge.tables import Outbox

REPORTS = "mf/v1/d/+/report"


def report_topic(device: str) -> str:
    return f"mf/v1/d/{device}/report"


class Journal:
    """A handler that remembers what was committed through it, per batch."""

    def __init__(self) -> None:
        self.batches: list[list[Message]] = []

    def __call__(self, session: Session, messages: list[Message]) -> None:
        for message in messages:
            if message.payload == b"poison":
                raise ValueError("cannot read this")
            if message.payload == b"bad sql":
                session.execute(text("INSERT INTO nowhere VALUES (1)"))
        # a row as the mark of the commit
        for message in messages:
            outbox.put(session, f"mf/v1/seen/{message.payload.decode()}", b"1")
            reply(session, f"mf/v1/d/{message.device}/ack", message.payload)
        self.batches.append(messages)

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for batch in self.batches for message in batch]


def seen(rig: Rig, payload: str) -> bool:
    with rig.database.read() as session:
        return session.get(Outbox, f"mf/v1/seen/{payload}") is not None


def test_messages_are_handled_in_order_with_their_device(rig: Rig) -> None:
    journal = Journal()
    rig.bridge({REPORTS: journal})
    device = rig.peer()
    for number in range(50):
        device.publish(report_topic("cam-1"), b"%d" % number)
    eventually(lambda: len(journal.payloads) == 50, "all are handled")
    assert journal.payloads == [b"%d" % number for number in range(50)]
    assert {each.device for batch in journal.batches for each in batch} == {"cam-1"}


def test_a_burst_is_committed_in_far_fewer_transactions_than_messages(rig: Rig) -> None:
    journal = Journal()
    bridge = rig.bridge({REPORTS: journal})
    device = rig.peer()
    for number in range(1000):
        device.client.publish(report_topic("cam-1"), b"%d" % number, qos=1)
    eventually(lambda: bridge.status().ingested == 1000, "all are handled")
    assert len(journal.batches) < 250


def test_when_a_device_hears_its_ack_the_report_is_committed(rig: Rig) -> None:
    rig.bridge({REPORTS: Journal()})
    device = rig.peer()
    device.subscribe("mf/v1/d/cam-1/ack")
    for number in range(20):
        device.publish(report_topic("cam-1"), b"%d" % number)
        device.wait_for("mf/v1/d/cam-1/ack", b"%d" % number)
        assert seen(rig, str(number))


def test_each_handler_gets_what_its_filter_takes_in(rig: Rig) -> None:
    reports, presence = Journal(), Journal()
    rig.bridge({REPORTS: reports, "mf/v1/d/+/presence": presence})
    device = rig.peer()
    device.publish(report_topic("cam-1"), b"r")
    device.publish("mf/v1/d/cam-1/presence", b"p", retain=True)
    device.publish("mf/v1/d/cam-1/telemetry", b"t")
    eventually(lambda: reports.payloads and presence.payloads, "both are handled")
    assert (reports.payloads, presence.payloads) == ([b"r"], [b"p"])


@pytest.mark.parametrize("poison", [b"poison", b"bad sql"])
def test_a_message_whose_handler_fails_is_dropped_and_named_and_no_other_is_lost(
    rig: Rig, poison: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal()
    bridge = rig.bridge({REPORTS: journal})
    device = rig.peer()
    for number in range(200):
        device.client.publish(report_topic("cam-1"), b"%d" % number, qos=1)
        if number in (0, 77, 199):
            device.client.publish(report_topic("cam-bad"), poison, qos=1)
    eventually(lambda: bridge.status().ingested == 200, "the good ones are handled")
    eventually(lambda: bridge.status().dropped == 3, "the bad ones are counted")
    assert all(seen(rig, str(number)) for number in range(200))
    assert caplog.text.count("dropping a message on mf/v1/d/cam-bad/report") == 3


def test_what_arrives_while_the_database_is_away_is_handled_when_it_is_back(
    rig: Rig,
) -> None:
    away = threading.Event()

    def fail(_connection: Connection) -> None:
        if away.is_set():
            raise OperationalError("BEGIN", {}, Exception("disk I/O error"))

    event.listen(rig.database.engine, "begin", fail)
    journal = Journal()
    bridge = rig.bridge({REPORTS: journal})
    away.set()
    device = rig.peer()
    for number in range(20):
        device.publish(report_topic("cam-1"), b"%d" % number)
    away.clear()
    eventually(lambda: len(journal.payloads) >= 20, "all are handled")
    assert journal.payloads == [b"%d" % number for number in range(20)]
    assert bridge.status().dropped == 0


def test_what_was_not_committed_when_the_server_stopped_comes_again(rig: Rig) -> None:
    entered, leave = threading.Event(), threading.Event()

    def stuck(_session: Session, _messages: list[Message]) -> None:
        entered.set()
        leave.wait(20)
        raise RuntimeError("the server is going down")

    first = Bridge(rig.database, rig.address)
    first.on(REPORTS, stuck)
    first.start()
    device = rig.peer()
    for number in range(5):
        device.publish(report_topic("cam-1"), b"%d" % number)
    assert entered.wait(20)
    # the handler never ends its batch: what a crash in a transaction leaves behind
    first._link.close()  # type: ignore[union-attr]
    device.publish(report_topic("cam-1"), b"5")
    journal = Journal()
    rig.bridge({REPORTS: journal})
    eventually(lambda: len(set(journal.payloads)) == 6, "all came again")
    assert sorted(set(journal.payloads)) == [b"%d" % number for number in range(6)]
    leave.set()
    first.stop()


def test_what_arrives_while_the_server_is_down_waits_in_the_broker(rig: Rig) -> None:
    rig.bridge({REPORTS: Journal()}).stop()
    device = rig.peer()
    for number in range(20):
        device.publish(report_topic("cam-1"), b"%d" % number)
    journal = Journal()
    rig.bridge({REPORTS: journal})
    eventually(lambda: len(journal.payloads) >= 20, "all are handled")
    assert journal.payloads == [b"%d" % number for number in range(20)]


def test_ingest_goes_on_after_a_broker_that_was_killed(rig: Rig) -> None:
    journal = Journal()
    bridge = rig.bridge({REPORTS: journal})
    kill(rig.broker)
    eventually(lambda: bridge.status().connected, "the bridge is back")
    rig.peer().publish(report_topic("cam-1"), b"after")
    eventually(lambda: b"after" in journal.payloads, "it is handled")


def test_bridges_that_share_handle_each_message_once(rig: Rig) -> None:
    journals = [Journal(), Journal()]
    for number, journal in enumerate(journals):
        rig.bridge({REPORTS: journal}, name=f"bridge-{number}", share="ingest")
    device = rig.peer()
    sent = [b"%d" % number for number in range(200)]
    for payload in sent:
        device.publish(report_topic("cam-1"), payload)

    def heard() -> list[bytes]:
        return [payload for journal in journals for payload in journal.payloads]

    eventually(lambda: len(heard()) >= 200, "all are handled")
    assert Counter(heard()) == Counter(sent)
    assert all(journal.payloads for journal in journals)


def test_handlers_are_registered_before_the_start(rig: Rig) -> None:
    bridge = rig.bridge()
    with pytest.raises(RuntimeError, match="register handlers before"):
        bridge.on(REPORTS, Journal())


def test_no_thread_outlives_stop(rig: Rig) -> None:
    rig.bridge({REPORTS: Journal()}).stop()
    names = {thread.name for thread in threading.enumerate()}
    assert not {name for name in names if name.startswith("bridge-")}
