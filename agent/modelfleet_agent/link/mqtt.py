"""The MQTT session: one thread of paho's, and a queue of what happens."""

import contextlib
import logging
import secrets
import socket
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from paho.mqtt.client import (
    Client,
    ConnectFlags,
    DisconnectFlags,
    MQTTMessage,
)
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.link import tunnel
from modelfleet_manifests.topics import (
    RECALLS,
    TIMESTAMP,
    deployment_topic,
    device_topic,
)

ONLINE, OFFLINE = b'{"online":true}', b'{"online":false}'
KEEP_ALIVE_S = 30
MAX_SPREAD_S = 120.0
MAX_QUEUED = 256
FAREWELL_S = 1.0
GRANT_S = 30.0
"""What a broker may take to answer a subscription."""
_RANDOM = secrets.SystemRandom()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Connected:
    """The session is up; subscriptions are sent. What is pending should be sent again."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session is down or could not be made; it connects again by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """The broker took what `Session.publish` gave this number."""

    number: int


Event = Arrived | Connected | Disconnected | Delivered


class Sink(Protocol):
    """Takes what happens, from any thread."""

    def put(self, event: Event, /) -> object:
        """Take one event."""


def reconnect_wait(failures: int, spread_s: float, share: float) -> float:
    """Return the seconds to wait: full jitter, so that a fleet does not come at once.

    Args:
        failures: Attempts that failed since the last connection.
        spread_s: The most after the first; it doubles with each failure.
        share: Random, in [0, 1).
    """
    return share * min(spread_s * 2.0 ** min(failures, 16), MAX_SPREAD_S)


class _Tunnelled(Client):
    """paho's client through an HTTP proxy, for which it would need another library.

    The only place that touches what paho keeps private: how it makes a connection.
    """

    def __init__(self, device: str, proxy: str) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=f"mf-{device}",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        self._through = proxy
        self.trouble = ""

    def _create_socket_connection(self) -> socket.socket:
        self.trouble = ""
        try:
            return tunnel.connect(
                self._through, self.host, self.port, timeout_s=self.connect_timeout
            )
        except OSError as error:
            self.trouble = error.strerror or str(error)
            raise


class Session:
    """Everything that happens is put into `events`; nothing is handled in paho's thread.

    Clean sessions: after each connect the broker sends the retained documents again, so a
    message may repeat and none is queued for a device that is away.
    """

    def __init__(
        self,
        enrolment: Enrolment,
        events: Sink,
        *,
        proxy: str = "",
        count: Callable[[int], object] = lambda _count: None,
        spread_s: float = 10,
        draw: Callable[[], float] = _RANDOM.random,
    ) -> None:
        """Prepare; nothing is sent before `start`.

        Args:
            enrolment: Who connects, and where.
            events: Gets what happens, in order.
            proxy: HTTP proxy that leads to the broker; "" where it is asked directly.
            count: Told the bytes of each message, in either direction.
            spread_s: A lost session comes back after a random time below this, in seconds;
                it doubles with each failure, up to two minutes.
            draw: Returns a random number in [0, 1).
        """
        self._me = enrolment
        self._events = events
        self._count = count
        self._spread = spread_s
        self._draw = draw
        self._failures = 0
        self._groups: frozenset[str] = frozenset()
        # subscriptions without an answer, and since when
        self._asked: dict[int, float] = {}
        self._lock = threading.Lock()  # both against the connect that subscribes
        self._client = self._make_client(proxy)

    def start(self) -> None:
        """Connect in the background, and again with full jitter whenever it is lost."""
        self._client.connect_async(
            self._me.mqtt_host,
            self._me.mqtt_port,
            keepalive=KEEP_ALIVE_S,
            clean_start=True,
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Say that the device leaves, disconnect and end the thread. Idempotent."""
        if self.connected:
            farewell = self._client.publish(self._presence, OFFLINE, qos=1, retain=True)
            try:
                farewell.wait_for_publish(FAREWELL_S)
            except (RuntimeError, ValueError) as error:
                log.debug("presence is left to the will: %s", error)
        self._client.disconnect()
        self._client.loop_stop()

    def set_groups(self, groups: Collection[str]) -> None:
        """Listen to the deployments of exactly these group ids. Idempotent."""
        with self._lock:
            gone, new = self._groups - set(groups), set(groups) - self._groups
            self._groups = frozenset(groups)
            if not self.connected:
                return  # the next connect subscribes them
            if gone:
                self._client.unsubscribe([deployment_topic(one) for one in sorted(gone)])
            if new:
                self._subscribe([deployment_topic(one) for one in sorted(new)])

    def look(self, grant_s: float = GRANT_S) -> None:
        """Give up a connection on which a subscription went `grant_s` without an answer.

        A broker that answers pings and nothing else would keep this device deaf for good:
        seen once with rumqttd, which took a subscription while another client left.
        """
        with self._lock:
            limit = monotonic_s() - grant_s
            deaf = any(since < limit for since in self._asked.values())
            connection = self._client.socket()
            if not deaf or not isinstance(connection, socket.socket):
                return
            self._asked = {}
        log.warning("MF_LINK no answer to a subscription in %g s", grant_s)
        with contextlib.suppress(OSError):  # it was lost by itself
            connection.shutdown(socket.SHUT_RDWR)

    def publish(self, kind: str, payload: bytes) -> int | None:
        """Send a `report` or `telemetry` (QoS 1); None where the session is down.

        Returns:
            The number that `Delivered` will carry. It is lost with the session: what was
            not delivered then is to be sent again after `Connected`.
        """
        if not self.connected:
            return None
        topic = device_topic(self._me.device, kind)
        self._count(len(topic) + len(payload))
        info = self._client.publish(topic, payload, qos=1)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    @property
    def connected(self) -> bool:
        """The session is up."""
        return self._client.is_connected()

    @property
    def _presence(self) -> str:
        return device_topic(self._me.device, "presence")

    def _make_client(self, proxy: str) -> _Tunnelled:
        client = _Tunnelled(self._me.device, proxy)
        client.username_pw_set(self._me.device, self._me.token)
        client.will_set(self._presence, OFFLINE, qos=1, retain=True)
        client.max_queued_messages_set(MAX_QUEUED)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        return client

    def _subscribe(self, topics: list[str]) -> None:
        _, number = self._client.subscribe([(topic, 1) for topic in topics])
        if number is not None:
            self._asked[number] = monotonic_s()

    def _wait_before_reconnect(self) -> None:
        wait = reconnect_wait(self._failures, self._spread, self._draw())
        self._failures += 1
        self._client.reconnect_delay_set(wait, wait)  # type: ignore[arg-type]  # any number

    def _on_connect(
        self,
        client: Client,
        _data: object,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._events.put(Disconnected(f"the broker refuses this device: {reason}"))
            return  # paho tells of the end of the connection, too
        self._failures = 0
        own = [device_topic(self._me.device, kind) for kind in ("assignment", "ack")]
        with self._lock:
            self._asked = {}
            groups = [deployment_topic(one) for one in sorted(self._groups)]
            self._subscribe([*own, TIMESTAMP, RECALLS, *groups])
        client.publish(self._presence, ONLINE, qos=1, retain=True)
        self._events.put(Connected())

    def _on_connect_fail(self, _client: Client, _data: object) -> None:
        where = f"{self._me.mqtt_host}:{self._me.mqtt_port}"
        why = f" ({self._client.trouble})" if self._client.trouble else ""
        self._events.put(Disconnected(f"no broker answers at {where}{why}"))
        self._wait_before_reconnect()

    def _on_disconnect(
        self,
        _client: Client,
        _data: object,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        with self._lock:
            self._asked = {}
        self._events.put(Disconnected(str(reason)))
        self._wait_before_reconnect()

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self._count(len(message.topic) + len(message.payload))
        self._events.put(Arrived(message.topic, bytes(message.payload)))

    def _on_publish(
        self,
        _client: Client,
        _data: object,
        number: int,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._events.put(Delivered(number))

    def _on_subscribe(
        self,
        _client: Client,
        _data: object,
        number: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        with self._lock:
            self._asked.pop(number, None)
        for reason in reasons:
            if reason.is_failure:
                log.warning("MF_LINK the broker refuses a subscription: %s", reason)
