"""What epoch the broker holds, asked in a short connection of its own.

The bridge itself comes back to a kept session, and there brokers differ: rumqttd never
sends retained messages again to a session that it kept (bytebeamio/rumqtt#1069), Mosquitto
sends first what it queued. A clean session gets exactly the retained message.
"""

import logging
import secrets
import time

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from modelfleet_manifests import topics
from modelfleet_server.bridge.link import LinkError
from modelfleet_server.bridge.wire import Wire
from modelfleet_server.broker.address import Address

log = logging.getLogger(__name__)

WAIT_S = 5.0


class _Ear:
    """Hears the retained epoch, or that there is none.

    Behind the subscription it publishes a message on the same topic, not retained: the
    broker sends the retained one first, so whoever hears this one need not wait longer.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.done = False
        self._fence = secrets.token_hex(8).encode()
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"mf-epoch-{secrets.token_hex(8)}",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self.client.on_connect = lambda client, *_: client.subscribe(topics.EPOCH, qos=1)
        self.client.on_subscribe = lambda client, *_: client.publish(
            topics.EPOCH, self._fence, qos=1
        )
        self.client.on_message = lambda _client, _data, message: self._hear(message)

    def _hear(self, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        if payload == self._fence:
            self.done = True
        elif message.retain:
            self.done = True
            if payload.isascii() and payload.isdigit():
                self.epoch = int(payload)
            else:
                log.warning(
                    "the broker holds an epoch that is no number; it counts as none"
                )


def hear_epoch(address: Address, timeout_s: float = WAIT_S) -> int:
    """Return the epoch that the broker holds, 0 where it holds none.

    A broker that says nothing for `timeout_s` seconds counts as one that holds none: that
    costs publishing what it has already, and harms nothing.

    Raises:
        LinkError: It cannot be reached, or ends the connection.
    """
    ear = _Ear()
    wire = Wire(ear.client)
    end = time.monotonic() + timeout_s
    try:
        ear.client.connect(*address, clean_start=True)
        while not ear.done and (left := end - time.monotonic()) > 0:
            if not wire.step(left):
                raise LinkError("the connection was lost")
        ear.client.disconnect()
        wire.step(0)
    except OSError as error:
        raise LinkError(str(error)) from error
    finally:
        wire.close()
    return ear.epoch
