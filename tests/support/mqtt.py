"""An MQTT 5 client for tests: real connections, and everything heard is kept."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from modelfleet_server.broker.address import Address

TIMEOUT_S = 20.0
GRANT_S = 5.0
"""After so many seconds without a grant a clean peer subscribes on a new connection: once
in some ten thousand connections the embedded broker takes a SUBSCRIBE without a word."""


class Heard(NamedTuple):
    """One message as it arrived."""

    topic: str
    payload: bytes
    retained: bool
    mid: int


@dataclass(frozen=True)
class Will:
    """What the broker publishes when the connection breaks."""

    topic: str
    payload: bytes
    retain: bool = False


class Peer:
    """A connected client. QoS 1 both ways.

    Args:
        address: Of the broker.
        client_id: Needed to come back as the same client.
        will: Last will.
        clean: Forget what the broker kept for this client id.
        session_s: How long the broker shall keep the session, in seconds.
        answers: Acknowledge what arrives. Without it messages stay unacknowledged.
    """

    def __init__(
        self,
        address: Address,
        client_id: str = "",
        *,
        will: Will | None = None,
        clean: bool = True,
        session_s: int = 0,
        answers: bool = True,
    ) -> None:
        self._changed = threading.Condition()
        self._heard: list[Heard] = []
        self._done: set[int] = set()
        self._clean = clean
        self.connected = False
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=not answers,
        )
        self.client.max_inflight_messages_set(0)
        if will is not None:
            self.client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
        self.client.on_socket_open = send_at_once
        self.client.on_connect = lambda *_: self._note(connected=True)
        self.client.on_disconnect = lambda *_: self._note(connected=False)
        self.client.on_message = lambda _client, _data, message: self._hear(message)
        self.client.on_publish = lambda _client, _data, mid, *_: self._finish(mid)
        self.client.on_subscribe = lambda _client, _data, mid, *_: self._finish(mid)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = session_s
        self.client.connect(*address, 30, clean_start=clean, properties=properties)
        self.client.loop_start()
        self.wait(lambda: self.connected, "CONNACK")

    @property
    def heard(self) -> list[Heard]:
        """Everything that arrived so far."""
        with self._changed:
            return list(self._heard)

    def at(self, number: int) -> Heard:
        """Return the `number`-th message, counted from 0, as soon as it is there."""
        self.wait(lambda: len(self._heard) > number, f"message {number}")
        return self._heard[number]

    def payloads(self, topic: str) -> list[bytes]:
        """Return what arrived on `topic`, in order."""
        return [each.payload for each in self.heard if each.topic == topic]

    def forget(self) -> None:
        """Begin to listen anew: `heard` is empty."""
        with self._changed:
            self._heard.clear()

    def wait(
        self, look: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Wait until `look` is true; it is asked after each packet."""
        end = time.monotonic() + timeout_s
        with self._changed:
            while not look():
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise AssertionError(f"did not happen within {timeout_s} s: {what}")

    def wait_for(self, topic: str, payload: bytes | None = None) -> None:
        """Wait until this payload, or any, arrived on `topic`."""
        self.wait(
            lambda: any(
                each.topic == topic and payload in (None, each.payload)
                for each in self._heard
            ),
            f"{payload!r:.60} on {topic}",
        )

    def wait_count(self, count: int) -> None:
        """Wait until `count` messages arrived in all."""
        self.wait(lambda: len(self._heard) >= count, f"{count} messages")

    def subscribe(self, *filters: str) -> None:
        """Subscribe and wait for the grant; a clean peer asks twice, see `GRANT_S`."""
        if self._clean:
            try:
                self._ask_for(filters, GRANT_S)
            except AssertionError:
                self._connect_again()
            else:
                return
        self._ask_for(filters, TIMEOUT_S)

    def _ask_for(self, filters: tuple[str, ...], timeout_s: float) -> None:
        options = SubscribeOptions(qos=1)
        _, mid = self.client.subscribe([(each, options) for each in filters])
        self.wait(lambda: mid in self._done, f"SUBACK for {filters}", timeout_s)

    def _connect_again(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.connected = False
        self.client.reconnect()
        self.client.loop_start()
        self.wait(lambda: self.connected, "CONNACK")

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish and wait until the broker acknowledged it."""
        mid = self.client.publish(topic, payload, qos=1, retain=retain).mid
        self.wait(lambda: mid in self._done, f"PUBACK for {topic}")

    def leave(self) -> None:
        """Disconnect in order."""
        self.client.disconnect()
        self.client.loop_stop()

    def break_off(self) -> None:
        """Lose the connection without a word, as when the power goes."""
        plug = self.client.socket()
        assert isinstance(plug, socket.socket)
        plug.shutdown(socket.SHUT_RDWR)
        self.wait(lambda: not self.connected, "the end of the connection")
        self.client.loop_stop()

    def _note(self, *, connected: bool) -> None:
        with self._changed:
            self.connected = connected
            self._changed.notify_all()

    def _hear(self, message: MQTTMessage) -> None:
        with self._changed:
            self._heard.append(
                Heard(message.topic, bytes(message.payload), message.retain, message.mid)
            )
            self._changed.notify_all()

    def _finish(self, mid: int) -> None:
        with self._changed:
            self._done.add(mid)
            self._changed.notify_all()


def send_at_once(_client: Client, _data: object, plug: object) -> None:
    """Send small packets without waiting for the one before to be acknowledged."""
    assert isinstance(plug, socket.socket)
    plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextmanager
def peers(address: Address) -> Iterator[Callable[..., Peer]]:
    """Give a maker of peers that all leave at the end."""
    made: list[Peer] = []

    def make(client_id: str = "", **wishes: object) -> Peer:
        peer = Peer(address, client_id, **wishes)  # type: ignore[arg-type]
        made.append(peer)
        return peer

    try:
        yield make
    finally:
        for peer in made:
            peer.leave()
