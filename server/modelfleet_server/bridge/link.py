"""One connection to the broker, from CONNECT until it is lost, and then thrown away.

A new paho client per connection: what an old one still had in flight would be sent again by
itself after a reconnect, beside and sometimes after newer versions. Here all that must be
sent again is in the database.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from modelfleet_server.bridge.wire import Wire
from modelfleet_server.broker.address import Address

log = logging.getLogger(__name__)

WINDOW = 1000
"""Messages that the broker may send us unacknowledged, and most that we send it."""

KEEP_ALIVE_S = 30
SESSION_S = 24 * 3600
"""How long the broker keeps what we did not acknowledge while we are away."""

OPEN_S = 10.0
"""From TCP connection to granted subscriptions."""

ACK_S = 30.0
"""For the acknowledgements of one batch; a broker that is slower is taken for dead."""

_TICK_S = 1.0
_LEAVE_S = 2.0


class LinkError(Exception):
    """There is no connection (any more); the text says why."""


class Parcel(NamedTuple):
    """Something to publish, QoS 1."""

    topic: str
    payload: bytes
    retain: bool


class Link:
    """One connection.

    Args:
        address: Of the broker.
        client_id: The broker keeps a session under it, and allows one link at a time.
        filters: What to subscribe to, QoS 1.
        receive: Called in the link's thread with each message; must not block.
        opened: Called in the link's thread once the subscriptions are granted.
    """

    def __init__(
        self,
        address: Address,
        client_id: str,
        filters: Sequence[str],
        *,
        receive: Callable[["Link", MQTTMessage], None],
        opened: Callable[["Link"], None],
    ) -> None:
        self.address = address
        self.window = WINDOW
        self._filters = filters
        self._receive = receive
        self._opened = opened
        self._open = False
        self._trouble = "the connection was lost"
        self._closing = threading.Event()
        self._gone = threading.Event()
        self._answers: dict[int, bool] = {}
        self._expected = 0
        self._answered = threading.Condition()
        self._leave_by = 0.0
        self._client = self._make_client(client_id)
        self._wire = Wire(self._client)

    @property
    def is_open(self) -> bool:
        """Whether subscriptions are granted and the connection is not lost."""
        return self._open and not self._gone.is_set()

    @property
    def was_open(self) -> bool:
        """Whether subscriptions were granted at some time."""
        return self._open

    def run(self) -> None:
        """Connect and serve the network until `close` or a fault.

        Raises:
            LinkError: It could not be opened, or was lost.
        """
        try:
            self._connect()
            self._serve()
        finally:
            self._end()
        if not self._closing.is_set():
            raise LinkError(self._trouble)

    def close(self) -> None:
        """Leave in order; `run` returns soon. From any thread."""
        self._leave_by = time.monotonic() + _LEAVE_S
        self._closing.set()
        self._client.disconnect()
        self._wire.wake()

    def give_up(self, trouble: str) -> None:
        """Drop the connection because of `trouble`. From any thread."""
        self._trouble = trouble
        self._gone.set()
        self._wire.wake()

    def publish(self, parcels: Sequence[Parcel]) -> list[bool]:
        """Publish and wait until the broker has answered for all of them.

        For one thread only. At most `window` parcels.

        Returns:
            For each parcel whether the broker acknowledged it and accepted it.
        """
        with self._answered:
            self._answers.clear()
            self._expected = len(parcels)
        mids = [
            self._client.publish(
                parcel.topic, parcel.payload, qos=1, retain=parcel.retain
            ).mid
            for parcel in parcels
        ]
        with self._answered:
            complete = self._answered.wait_for(self._is_settled, timeout=ACK_S)
            answers = dict(self._answers)
        if not complete:
            self.give_up(f"no acknowledgement within {ACK_S:.0f} s")
        return [answers.get(mid, False) for mid in mids]

    def ack(self, mid: int) -> None:
        """Acknowledge a message; in the order of arrival. From any one thread."""
        if self.is_open:
            self._client.ack(mid, 1)

    def _is_settled(self) -> bool:
        return len(self._answers) >= self._expected or self._gone.is_set()

    def _make_client(self, client_id: str) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages_set(
            0
        )  # no limit of paho's; `publish` keeps to `window`
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        return client

    def _connect(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_S
        properties.ReceiveMaximum = WINDOW
        try:
            self._client.connect(
                self.address.host,
                self.address.port,
                KEEP_ALIVE_S,
                clean_start=False,
                properties=properties,
            )
        except OSError as error:
            raise LinkError(str(error)) from error

    def _serve(self) -> None:
        open_by = time.monotonic() + OPEN_S
        while not self._gone.is_set() and self._wire.step(_TICK_S):
            if self._closing.is_set() and self._has_left():
                return
            if not self._open and time.monotonic() > open_by:
                self._trouble = "the broker does not answer as an MQTT 5 broker"
                return

    def _has_left(self) -> bool:
        return not self._client.want_write() or time.monotonic() > self._leave_by

    def _end(self) -> None:
        self._gone.set()
        self._wire.close()
        with self._answered:
            self._answered.notify_all()

    def _on_connect(
        self,
        client: Client,
        _data: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self.give_up(f"the broker refuses us: {reason}")
            return
        self.window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        once = [(topic_filter, SubscribeOptions(qos=1)) for topic_filter in self._filters]
        if once:
            client.subscribe(once)
        else:
            self._open = True
            self._opened(self)

    def _on_subscribe(
        self,
        _client: Client,
        _data: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            words = ", ".join(str(reason) for reason in reasons)
            self.give_up(f"the broker refuses our subscriptions: {words}")
            return
        self._open = True
        self._opened(self)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            self._receive(self, message)
        except Exception:
            # paho's caller would end the connection without a word
            log.exception(
                "a message of %d bytes could not be taken in", len(message.payload)
            )

    def _on_publish(
        self,
        _client: Client,
        _data: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._answered:
            self._answers[mid] = not reason.is_failure
            if len(self._answers) >= self._expected:
                self._answered.notify_all()

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._trouble = f"the connection was lost: {reason}"
