"""The session against a real broker."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.support.brokers import kill, make_broker
from tests.support.mqtt import Peer, peers
from tests.support.proxy import proxying, relay

from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.link.mqtt import (
    Arrived,
    Connected,
    Delivered,
    Disconnected,
    Event,
    Session,
    reconnect_wait,
)
from modelfleet_manifests.topics import RECALLS, deployment_topic, device_topic
from modelfleet_server.broker.child import ChildBroker

TIMEOUT_S = 20


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildBroker]:
    broker = make_broker("embedded", tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def peer(broker: ChildBroker) -> Iterator[Peer]:
    assert broker.address is not None
    with peers(broker.address) as make:
        yield make()


def enrolment(broker: ChildBroker, device: str) -> Enrolment:
    assert broker.address is not None
    return Enrolment(
        device=device,
        enrolment="1" * 32,
        incarnation=1,
        fleet="2" * 64,
        server="http://127.0.0.1:1",
        mqtt_host=broker.address.host,
        mqtt_port=broker.address.port,
        token="secret",
    )


class Listener:
    """A session with what happened to it."""

    def __init__(self, me: Enrolment, proxy: str = "") -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.counted: list[int] = []
        self.session = Session(
            me, self.events, proxy=proxy, count=self.counted.append, spread_s=0.05
        )
        self.session.start()

    def wait(self, look: Callable[[Event], bool]) -> Event:
        while True:
            event = self.events.get(timeout=TIMEOUT_S)
            if look(event):
                return event

    def wait_for(self, kind: type[Event]) -> Event:
        return self.wait(lambda event: isinstance(event, kind))


@pytest.fixture
def listen(broker: ChildBroker) -> Iterator[Callable[..., Listener]]:
    made: list[Listener] = []

    def make(device: str, proxy: str = "") -> Listener:
        made.append(Listener(enrolment(broker, device), proxy))
        return made[-1]

    yield make
    for listener in made:
        listener.session.stop()


Listen = Callable[..., Listener]


def test_a_retained_assignment_and_an_ack_arrive(listen: Listen, peer: Peer) -> None:
    topic = device_topic("cam-1", "assignment")
    peer.publish(topic, b"assigned", retain=True)
    listener = listen("cam-1")
    listener.wait_for(Connected)
    listener.wait(lambda event: event == Arrived(topic, b"assigned"))
    ack = device_topic("cam-1", "ack")
    peer.publish(ack, b"acked")
    listener.wait(lambda event: event == Arrived(ack, b"acked"))
    assert listener.counted == [len(topic) + len(b"assigned"), len(ack) + len(b"acked")]


def test_recalls_arrive_at_every_device(listen: Listen, peer: Peer) -> None:
    listeners = [listen("cam-2"), listen("cam-3")]
    for listener in listeners:
        listener.wait_for(Connected)
    peer.publish(RECALLS, b"recall", retain=True)
    for listener in listeners:
        listener.wait(lambda event: event == Arrived(RECALLS, b"recall"))
    peer.publish(RECALLS, b"", retain=True)


def test_exactly_the_told_groups_are_heard(listen: Listen, peer: Peer) -> None:
    one, two = (deployment_topic(digit * 32) for digit in "ab")
    peer.publish(one, b"one", retain=True)
    peer.publish(two, b"two", retain=True)
    listener = listen("cam-4")
    listener.session.set_groups({"a" * 32})  # before or after the connect, as it comes
    listener.wait(lambda event: event == Arrived(one, b"one"))
    listener.session.set_groups({"b" * 32})
    listener.wait(lambda event: event == Arrived(two, b"two"))
    peer.publish(one, b"unheard", retain=True)
    peer.publish(two, b"heard", retain=True)
    unheard = Arrived(one, b"unheard")
    event = listener.wait(lambda event: event in (unheard, Arrived(two, b"heard")))
    assert event != unheard


def test_a_report_is_delivered_to_the_broker(listen: Listen, peer: Peer) -> None:
    peer.subscribe(device_topic("cam-5", "report"))
    listener = listen("cam-5")
    listener.wait_for(Connected)
    number = listener.session.publish("report", b"signed")
    assert number is not None
    listener.wait(lambda event: event == Delivered(number))
    peer.wait_for(device_topic("cam-5", "report"), b"signed")


def test_presence_tells_when_a_device_comes_and_goes(
    broker: ChildBroker, peer: Peer
) -> None:
    topic = device_topic("cam-6", "presence")
    peer.subscribe(topic)
    listener = Listener(enrolment(broker, "cam-6"))
    peer.wait_for(topic, b'{"online":true}')
    listener.session.stop()
    peer.wait_for(topic, b'{"online":false}')
    assert not listener.session.connected


def test_a_lost_broker_is_found_again_and_groups_are_heard_anew(
    tmp_path: Path,
) -> None:
    broker = make_broker("embedded", tmp_path)
    broker.start()
    listener = Listener(enrolment(broker, "cam-7"))
    try:
        listener.session.set_groups({"c" * 32})
        listener.wait_for(Connected)
        kill(broker)
        listener.wait_for(Disconnected)
        listener.wait_for(Connected)
        assert broker.address is not None
        with peers(broker.address) as make:
            topic = deployment_topic("c" * 32)
            make().publish(topic, b"again", retain=True)
            listener.wait(lambda event: event == Arrived(topic, b"again"))
    finally:
        listener.session.stop()
        broker.stop()


@contextmanager
def muting(broker: ChildBroker) -> Iterator[int]:
    """Relay to `broker`; on the first connection only the answer to the connect passes."""
    assert broker.address is not None
    upstream = (broker.address.host, broker.address.port)

    def serve(server: socket.socket) -> None:
        for mute in (True, False):
            client = server.accept()[0]
            with client, socket.create_connection(upstream) as other:
                relay(client, other, mute=mute)

    with socket.create_server(("127.0.0.1", 0)) as server:
        serving = threading.Thread(target=serve, args=(server,), daemon=True)
        serving.start()
        yield server.getsockname()[1]
        serving.join(TIMEOUT_S)
    assert not serving.is_alive()


def test_a_broker_that_never_answers_a_subscription_is_given_up(
    broker: ChildBroker, peer: Peer
) -> None:
    topic = device_topic("cam-11", "assignment")
    peer.publish(topic, b"assigned", retain=True)
    with muting(broker) as port:
        me = msgspec.structs.replace(enrolment(broker, "cam-11"), mqtt_port=port)
        listener = Listener(me)
        try:
            listener.wait_for(Connected)
            end = time.monotonic() + TIMEOUT_S
            while listener.events.empty() and time.monotonic() < end:
                listener.session.look(0.5)
                time.sleep(0.05)
            listener.wait_for(Disconnected)
            listener.wait_for(Connected)
            listener.wait(lambda event: event == Arrived(topic, b"assigned"))
            time.sleep(0.6)
            listener.session.look(0.5)  # what was answered is not given up
            assert listener.session.connected
        finally:
            listener.session.stop()


def test_without_a_broker_nothing_is_sent_and_it_is_told(broker: ChildBroker) -> None:
    nowhere = msgspec.structs.replace(enrolment(broker, "cam-8"), mqtt_port=1)
    listener = Listener(nowhere)
    try:
        event = listener.wait_for(Disconnected)
        assert isinstance(event, Disconnected)
        assert "127.0.0.1:1" in event.reason
        assert listener.session.publish("report", b"lost") is None
        listener.wait_for(Disconnected)  # it goes on trying
    finally:
        listener.session.stop()


def test_a_fleet_spreads_its_reconnects_and_backs_off() -> None:
    assert [reconnect_wait(n, 10, 0.5) for n in range(6)] == [5, 10, 20, 40, 60, 60]
    assert reconnect_wait(10_000, 10, 0.0) == 0


def test_a_session_takes_a_tunnel_through_the_proxy(
    listen: Listen, peer: Peer, broker: ChildBroker
) -> None:
    assert broker.address is not None
    topic = device_topic("cam-9", "assignment")
    peer.publish(topic, b"assigned", retain=True)
    with proxying() as proxy:
        listener = listen("cam-9", f"http://me:word@127.0.0.1:{proxy.port}")
        listener.wait(lambda event: event == Arrived(topic, b"assigned"))
        listener.session.stop()
    place = f"{broker.address.host}:{broker.address.port}"
    assert proxy.heads[0].startswith(f"CONNECT {place} HTTP/1")
    assert "Proxy-Authorization: Basic" in proxy.heads[0]
    assert "secret" not in proxy.heads[0]


def test_a_proxy_that_refuses_is_named(listen: Listen) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listener = listen("cam-10", f"http://127.0.0.1:{port}")
        client = server.accept()[0]
        with client:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            lost = listener.wait_for(Disconnected)
        listener.session.stop()
    assert isinstance(lost, Disconnected)
    assert "Tunnel connection failed: 403 Forbidden" in lost.reason
