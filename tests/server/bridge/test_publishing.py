"""What goes out: real broker, real database, real subscribers."""

import os
import signal
from pathlib import Path

import pytest
from tests.server.bridge.conftest import Rig
from tests.support.brokers import kill
from tests.support.waiting import eventually

from modelfleet_server.bridge import outbox
from modelfleet_server.bridge.service import Bridge, reply
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import InvalidError, UnavailableError

TOPIC = "mf/v1/g/group-1/deployment"


def test_what_is_put_is_published_after_the_commit_and_retained(rig: Rig) -> None:
    rig.bridge()
    watcher = rig.peer()
    watcher.subscribe("mf/v1/#")
    with rig.database.write() as session:
        outbox.put(session, TOPIC, b"word")
        assert watcher.payloads(TOPIC) == []
    watcher.wait_for(TOPIC, b"word")
    assert rig.kept(TOPIC) == b"word"


def test_what_is_rolled_back_is_never_published(rig: Rig) -> None:
    rig.bridge()
    watcher = rig.peer()
    watcher.subscribe("mf/v1/#")
    with pytest.raises(InvalidError), rig.database.write() as session:  # noqa: PT012
        outbox.put(session, TOPIC, b"word")
        reply(session, "mf/v1/d/cam-1/ack", b"1")
        outbox.put(session, "#", b"word")
    rig.put("mf/v1/fence", b"")
    watcher.wait_for("mf/v1/fence")
    assert [each.topic for each in watcher.heard if each.topic != "mf/v1/epoch"] == [
        "mf/v1/fence"
    ]


def test_an_empty_payload_clears_the_topic(rig: Rig) -> None:
    rig.bridge()
    rig.put(TOPIC, b"word")
    rig.published()
    rig.put(TOPIC, b"")
    rig.published()
    assert rig.kept(TOPIC) is None


def test_no_subscriber_ever_hears_an_older_version_after_a_newer_one(rig: Rig) -> None:
    watcher = rig.peer()
    watcher.subscribe("mf/v1/g/#")
    rig.bridge()
    topics = [f"mf/v1/g/group-{number}/deployment" for number in range(4)]
    for number in range(400):
        rig.put(topics[number % 4], b"%d" % number)
    rig.published()
    for index, topic in enumerate(topics):
        watcher.wait_for(topic, b"%d" % (396 + index))
        heard = [int(payload) for payload in watcher.payloads(topic)]
        assert heard == sorted(heard)


def test_the_newest_versions_survive_a_broker_that_is_killed_while_publishing(
    rig: Rig,
) -> None:
    rig.bridge()
    topics = [f"mf/v1/g/group-{number}/deployment" for number in range(50)]
    for number in range(300):
        rig.put(topics[number % 50], b"%d" % number)
        if number % 150 == 75:
            kill(rig.broker)
    rig.published()
    late = rig.peer()
    late.subscribe("mf/v1/g/#")
    late.wait_count(50)
    assert {each.topic: int(each.payload) for each in late.heard} == {
        topic: 250 + index for index, topic in enumerate(topics)
    }


def test_what_is_put_while_the_broker_is_away_is_published_when_it_is_back(
    rig: Rig,
) -> None:
    bridge = rig.bridge()
    assert rig.broker.pid is not None
    os.kill(rig.broker.pid, signal.SIGKILL)
    eventually(lambda: not bridge.status().connected, "the loss is noticed")
    assert bridge.status().trouble
    rig.put(TOPIC, b"word")
    rig.published()
    assert rig.kept(TOPIC) == b"word"
    assert bridge.status().connected


def test_a_bridge_that_starts_later_publishes_what_was_put_before(rig: Rig) -> None:
    rig.put(TOPIC, b"word")
    bridge = rig.bridge()
    rig.published()
    assert rig.kept(TOPIC) == b"word"
    bridge.stop()
    rig.put(TOPIC, b"later")
    rig.bridge()
    rig.published()
    assert rig.kept(TOPIC) == b"later"


def test_what_another_process_puts_is_found_without_a_bell(
    rig: Rig, tmp_path: Path
) -> None:
    rig.bridge()
    # another spelling of the same file: no bell is shared, as with another process
    other = Database(f"sqlite:///{tmp_path}/./fleet.db")
    with other.write() as session:
        outbox.put(session, TOPIC, b"word")
    other.close()
    rig.published()
    assert rig.kept(TOPIC) == b"word"


def test_large_payloads_pass(rig: Rig) -> None:
    rig.bridge()
    topics = [f"mf/v1/g/group-{number}/deployment" for number in range(40)]
    with rig.database.write() as session:
        for topic in topics:
            outbox.put(session, topic, topic.encode().ljust(256 * 1024, b"."))
    rig.published()
    late = rig.peer()
    late.subscribe("mf/v1/g/#")
    late.wait_count(40)
    assert all(each.payload.startswith(each.topic.encode()) for each in late.heard)
    assert {len(each.payload) for each in late.heard} == {256 * 1024}


def test_replies_are_sent_after_the_commit_in_order_and_are_not_retained(rig: Rig) -> None:
    bridge = rig.bridge()
    device = rig.peer()
    device.subscribe("mf/v1/d/cam-1/ack")
    with rig.database.write() as session:
        for number in range(10):
            reply(session, "mf/v1/d/cam-1/ack", b"%d" % number)
    device.wait_for("mf/v1/d/cam-1/ack", b"9")
    assert device.payloads("mf/v1/d/cam-1/ack") == [b"%d" % number for number in range(10)]
    assert rig.kept("mf/v1/d/cam-1/ack") is None
    eventually(lambda: bridge.status().replied == 10, "the replies are counted")


@pytest.mark.parametrize("broker", ["mosquitto"], indirect=True)
def test_a_broker_that_falls_back_to_a_snapshot_is_told_what_came_after(rig: Rig) -> None:
    bridge = rig.bridge()
    for topic in ("mf/v1/g/old/deployment", "mf/v1/g/new/deployment", TOPIC):
        rig.put(topic, b"first")
    rig.published()
    assert rig.broker.pid is not None
    os.kill(rig.broker.pid, signal.SIGUSR1)  # Mosquitto saves
    eventually((rig.broker.folder / "mosquitto.db").exists, "the snapshot is there")
    rig.put("mf/v1/g/new/deployment", b"second")
    rig.put(TOPIC, b"")  # cleared, and in the snapshot still
    rig.published()
    before = bridge.status().published
    kill(rig.broker)
    eventually(lambda: bridge.status().published > before, "something is published again")
    rig.published()
    assert rig.kept("mf/v1/g/old/deployment") == b"first"
    assert rig.kept("mf/v1/g/new/deployment") == b"second"
    assert rig.kept(TOPIC) is None
    assert bridge.status().published == before + 2


def test_a_database_that_is_older_than_the_broker_does_not_overwrite_it(rig: Rig) -> None:
    rig.put("mf/v1/g/other/deployment", b"word")
    bridge = rig.bridge()
    rig.published()
    bridge.stop()
    operator = rig.peer()
    operator.publish(TOPIC, b"newer than the backup", retain=True)
    operator.publish("mf/v1/epoch", b"5000", retain=True)
    again = rig.bridge()
    eventually(lambda: again.status().epoch == 5000, "the bridge takes note")
    rig.put("mf/v1/g/other/deployment", b"next")
    eventually(lambda: rig.kept("mf/v1/g/other/deployment") == b"next", "the next word")
    assert rig.kept(TOPIC) == b"newer than the backup"
    assert rig.put(TOPIC, b"decided by an operator") > 5000
    rig.published()


def test_the_bridge_names_a_broker_that_is_away_within_a_bounded_time(rig: Rig) -> None:
    rig.broker.stop()
    bridge = Bridge(rig.database, rig.address)
    with pytest.raises(UnavailableError, match=rf"broker {rig.address} cannot be used"):
        bridge.start(timeout_s=0.5)
    assert not bridge.status().connected
