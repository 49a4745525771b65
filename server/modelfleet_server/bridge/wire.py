"""The network loop of one paho client, in the thread that calls `step`.

Made from paho's interface for external event loops. Its own loop waits by `select`, which
fails as soon as the server has more than 1,024 files open, and a fault in its thread goes
unnoticed.
"""

import contextlib
import selectors
import socket

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode


class Wire:
    """Moves packets between a client and its socket.

    Args:
        client: Not connected yet. With this its packets are queued by any thread, and sent
            by the one that calls `step`.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waker, self._wakee = socket.socketpair()
        self._waker.setblocking(False)  # noqa: FBT003 the name says it
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakee, selectors.EVENT_READ)
        self._watched: socket.socket | None = None
        client.on_socket_register_write = lambda *_: self.wake()
        client.on_socket_open = _send_at_once

    def wake(self) -> None:
        """End a `step` that waits. From any thread."""
        # a full pipe wakes as well, a closed one has nobody to wake
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def step(self, timeout_s: float) -> bool:
        """Wait for something to do and do it; return whether the connection stands."""
        plug = self._client.socket()
        if not isinstance(plug, socket.socket):
            return False
        writes = selectors.EVENT_WRITE if self._client.want_write() else 0
        events = selectors.EVENT_READ | writes
        if self._watched is None:
            self._watched = plug
            self._selector.register(plug, events)
        else:
            self._selector.modify(plug, events)
        for key, ready in self._selector.select(timeout_s):
            if key.fileobj is self._wakee:
                self._wakee.recv(4096)
            elif not self._move(ready):
                return False
        return self._client.loop_misc() is MQTTErrorCode.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """Close all sockets, the client's too."""
        self._selector.close()
        for plug in (self._watched, self._client.socket(), self._waker, self._wakee):
            if isinstance(plug, socket.socket):
                plug.close()

    def _move(self, ready: int) -> bool:
        fine = MQTTErrorCode.MQTT_ERR_SUCCESS
        if ready & selectors.EVENT_READ:
            if self._client.loop_read() is not fine:
                return False
            _confirm_at_once(self._client.socket())
        return not ready & selectors.EVENT_WRITE or self._client.loop_write() is fine


def _send_at_once(_client: Client, _data: object, plug: object) -> None:
    # an acknowledgement and a reply are small packets: each would wait 40 ms for the next
    if isinstance(plug, socket.socket):
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _confirm_at_once(plug: object) -> None:
    # a broker that holds back small packets (rumqttd) waits for the kernel's confirmation
    # of the one before, for which the kernel takes 40 ms; Linux forgets this option
    if isinstance(plug, socket.socket) and hasattr(socket, "TCP_QUICKACK"):
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
