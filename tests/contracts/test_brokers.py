"""What every broker must do for us: one suite, run against each that we can start."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from tests.support.brokers import KINDS, kill, make_broker
from tests.support.mqtt import Peer, Will, peers
from tests.support.waiting import eventually

from modelfleet_server.bridge import outbox
from modelfleet_server.bridge.service import Bridge
from modelfleet_server.broker.child import ChildBroker
from modelfleet_server.kit.db import Database
from modelfleet_server.migrations import create_all

MakePeer = Callable[..., Peer]
LARGEST = 256 * 1024
_roots = count()


@pytest.fixture(scope="module", params=KINDS)
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChildBroker]:
    broker = make_broker(request.param, tmp_path_factory.mktemp(request.param))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def peer(broker: ChildBroker) -> Iterator[MakePeer]:
    assert broker.address is not None
    with peers(broker.address) as make:
        yield make


@pytest.fixture
def root() -> str:
    """A topic prefix of the test's own: the broker is shared by all of them."""
    return f"t{next(_roots)}"


def test_a_late_subscriber_gets_the_retained_message(peer: MakePeer, root: str) -> None:
    peer().publish(f"{root}/d/cam-1/assignment", b"word", retain=True)
    late = peer()
    late.subscribe(f"{root}/d/cam-1/assignment")
    late.wait_for(f"{root}/d/cam-1/assignment", b"word")
    assert late.heard[0].retained


@pytest.mark.parametrize("topic_filter", ["d/+/assignment", "d/#", "#"])
def test_a_late_subscriber_gets_all_that_a_wildcard_takes_in(
    peer: MakePeer, root: str, topic_filter: str
) -> None:
    writer = peer()
    topics = {f"{root}/d/cam-{number}/assignment" for number in range(50)}
    for topic in topics:
        writer.publish(topic, topic.encode(), retain=True)
    late = peer()
    late.subscribe(f"{root}/{topic_filter}")
    late.wait_count(len(topics))
    assert Counter(each.topic for each in late.heard) == Counter(topics)


def test_only_the_newest_retained_message_is_kept(peer: MakePeer, root: str) -> None:
    writer = peer()
    for number in range(20):
        writer.publish(f"{root}/x", b"%d" % number, retain=True)
    late = peer()
    late.subscribe(f"{root}/#")
    writer.publish(f"{root}/fence", b"")
    late.wait_for(f"{root}/fence")
    assert late.payloads(f"{root}/x") == [b"19"]


def test_an_empty_payload_clears_what_was_retained(peer: MakePeer, root: str) -> None:
    writer = peer()
    writer.publish(f"{root}/cleared", b"word", retain=True)
    writer.publish(f"{root}/kept", b"word", retain=True)
    writer.publish(f"{root}/cleared", b"", retain=True)
    late = peer()
    late.subscribe(f"{root}/#")
    writer.publish(f"{root}/fence", b"")
    late.wait_for(f"{root}/fence")
    late.wait_for(f"{root}/kept")
    assert late.payloads(f"{root}/cleared") == []


def test_the_will_is_published_when_a_client_breaks_off(peer: MakePeer, root: str) -> None:
    watcher = peer()
    watcher.subscribe(f"{root}/#")
    peer(will=Will(f"{root}/presence", b"gone")).break_off()
    watcher.wait_for(f"{root}/presence", b"gone")


def test_a_retained_will_is_what_a_late_subscriber_finds(peer: MakePeer, root: str) -> None:
    watcher, device = peer(), peer(will=Will(f"{root}/presence", b"gone", retain=True))
    watcher.subscribe(f"{root}/#")
    device.publish(f"{root}/presence", b"here", retain=True)
    device.break_off()
    watcher.wait_for(f"{root}/presence", b"gone")
    late = peer()
    late.subscribe(f"{root}/presence")
    late.wait_for(f"{root}/presence")
    assert late.payloads(f"{root}/presence") == [b"gone"]


def test_no_will_is_published_when_a_client_leaves_in_order(
    peer: MakePeer, root: str
) -> None:
    watcher = peer()
    watcher.subscribe(f"{root}/#")
    peer(f"{root}-device", will=Will(f"{root}/presence", b"gone")).leave()
    # the same client id again: the broker is done with the first connection by then
    peer(f"{root}-device").publish(f"{root}/fence", b"")
    watcher.wait_for(f"{root}/fence")
    assert watcher.payloads(f"{root}/presence") == []


def test_a_shared_subscription_gives_each_message_to_one_of_its_members(
    peer: MakePeer, root: str
) -> None:
    members = [peer(), peer()]
    for member in members:
        member.subscribe(f"$share/ingest/{root}/d/+/report")
    writer = peer()
    sent = [b"%d" % number for number in range(200)]
    for payload in sent:
        writer.publish(f"{root}/d/cam-1/report", payload)

    def heard() -> list[bytes]:
        return [each.payload for member in members for each in member.heard]

    eventually(lambda: len(heard()) >= len(sent), "all messages arrive")
    writer.publish(f"{root}/d/cam-1/report", b"fence")
    eventually(lambda: b"fence" in heard(), "the last message arrives")
    assert Counter(heard()) == Counter([*sent, b"fence"])
    assert all(member.heard for member in members)


def test_a_client_that_comes_back_clean_gets_the_latest_word_and_no_backlog(
    peer: MakePeer, root: str
) -> None:
    writer, name = peer(), f"{root}-device"
    first = peer(name)
    first.subscribe(f"{root}/#")
    writer.publish(f"{root}/deployment", b"before", retain=True)
    first.wait_for(f"{root}/deployment", b"before")
    first.break_off()
    for number in range(30):
        writer.publish(f"{root}/deployment", b"%d" % number, retain=True)
        writer.publish(f"{root}/ack", b"%d" % number)
    second = peer(name)
    second.subscribe(f"{root}/#")
    writer.publish(f"{root}/fence", b"")
    second.wait_for(f"{root}/fence")
    second.wait_for(f"{root}/deployment")
    assert second.payloads(f"{root}/deployment") == [b"29"]
    assert second.payloads(f"{root}/ack") == []


def test_a_message_that_was_not_acknowledged_comes_again(peer: MakePeer, root: str) -> None:
    name = f"{root}-server"
    first = peer(name, clean=False, session_s=3600, answers=False)
    first.subscribe(f"{root}/report")
    writer = peer()
    for number in range(5):
        writer.publish(f"{root}/report", b"%d" % number)
    first.wait_count(5)
    first.client.ack(first.heard[0].mid, 1)
    first.client.ack(first.heard[1].mid, 1)
    # an answer to something later shows that the acknowledgements were read
    first.publish(f"{root}/other", b"")
    first.break_off()
    writer.publish(f"{root}/report", b"5")
    second = peer(name, clean=False, session_s=3600)
    second.wait_for(f"{root}/report", b"5")
    assert second.payloads(f"{root}/report") == [b"2", b"3", b"4", b"5"]


def test_messages_of_one_topic_arrive_in_order_and_none_is_missing(
    peer: MakePeer, root: str
) -> None:
    reader, writer = peer(), peer()
    reader.subscribe(f"{root}/d/+/report")
    sent = [b"%d" % number for number in range(2000)]
    for payload in sent:
        writer.client.publish(f"{root}/d/cam-1/report", payload, qos=1)
    reader.wait_count(len(sent))
    assert reader.payloads(f"{root}/d/cam-1/report") == sent


@pytest.mark.parametrize("size", [1, 16 * 1024, LARGEST])
def test_payloads_up_to_256_kib_pass_unchanged(
    peer: MakePeer, root: str, size: int
) -> None:
    payload = bytes(index * 31 % 251 for index in range(size))
    reader, writer = peer(), peer()
    reader.subscribe(f"{root}/now")
    writer.publish(f"{root}/now", payload)
    writer.publish(f"{root}/kept", payload, retain=True)
    reader.subscribe(f"{root}/kept")
    reader.wait_for(f"{root}/kept")
    reader.wait_for(f"{root}/now")
    assert reader.payloads(f"{root}/now") == reader.payloads(f"{root}/kept") == [payload]


def test_nothing_is_lost_for_a_subscriber_that_is_slow(peer: MakePeer, root: str) -> None:
    reader, writer = peer(answers=False), peer()
    reader.subscribe(f"{root}/#")
    # more than any broker sends unacknowledged, each as large as a document may be
    sent = [number.to_bytes(2, "big") * 8 * 1024 for number in range(1200)]
    for payload in sent:
        writer.publish(f"{root}/x", payload)
    for number in range(len(sent)):
        reader.client.ack(reader.at(number).mid, 1)
    assert reader.payloads(f"{root}/x") == sent


def test_a_payload_that_is_too_large_harms_nobody_else(peer: MakePeer, root: str) -> None:
    reader, careless, writer = peer(), peer(), peer()
    reader.subscribe(f"{root}/#")
    careless.client.publish(f"{root}/x", bytes(4 * LARGEST), qos=1)
    writer.publish(f"{root}/fence", b"")
    reader.wait_for(f"{root}/fence")
    again = peer()
    again.publish(f"{root}/x", b"small")
    reader.wait_for(f"{root}/x", b"small")
    assert reader.payloads(f"{root}/x") == [b"small"]


def test_a_broker_that_lost_its_memory_is_filled_again_by_the_bridge(
    broker: ChildBroker, tmp_path: Path
) -> None:
    address = broker.address
    assert address is not None
    database = Database(f"sqlite:///{tmp_path}/fleet.db")
    create_all(database)
    bridge = Bridge(database, address)
    words = {f"mf/v1/g/group-{number}/deployment": b"%d" % number for number in range(300)}
    with database.write() as session:
        for topic, payload in words.items():
            outbox.put(session, topic, payload)
    bridge.start()
    try:
        eventually(lambda: bridge.status().backlog == 0, "everything is published")
        kill(broker)
        with peers(address) as make:
            late = make()
            late.subscribe("mf/v1/g/+/deployment", "mf/v1/epoch")
            late.wait_for("mf/v1/epoch", b"300")
            assert {each.topic: each.payload for each in late.heard} == {
                **words,
                "mf/v1/epoch": b"300",
            }
    finally:
        bridge.stop()
        database.close()
