"""The embedded broker: rumqttd of the PyPI package `iotcore`, with a generated file.

For trying out and for tests. Its own defaults listen on all addresses, refuse MQTT 5, close
the connection on payloads over 20 KB and wait between connections. What no setting changes:
no access lists, no client certificates, nothing survives its end, about 100 unacknowledged
messages per client, acknowledgements in order or the connection is closed.
"""

import importlib.util
from pathlib import Path

from modelfleet_server.broker.address import Address
from modelfleet_server.broker.child import Command, Recipe, this_python

NAME = "embedded"
MAX_PACKET = (256 + 64) * 1024
"""A payload of 256 KiB, its topic and its properties, in bytes."""

SEGMENT = 4 * 1024 * 1024
SEGMENTS = 8
"""What one filter remembers: a subscriber further behind than the oldest of these segments
(in bytes) loses messages. Memory is used only for what flows through a filter."""

CONFIG = """\
# written at each start of the server
id = 0

[router]
id = 0
max_connections = 4000
max_outgoing_packet_count = 1000
max_segment_size = {segment}
max_segment_count = {segments}

[v5.1]
name = "loopback"
listen = "{address}"
next_connection_delay_ms = 0

    [v5.1.connections]
    connection_timeout_ms = 20000
    max_payload_size = {packet}
    max_inflight_count = 1000
    dynamic_filters = true
"""


class Embedded(Recipe):
    """How to run rumqttd."""

    name = NAME
    warning = (
        "the embedded broker has no access lists, no certificates and no memory;"
        " it serves this machine only. Install mosquitto for more than trying out"
    )

    def prepare(self, folder: Path, address: Address) -> Command:
        """Write the configuration and return the command."""
        config = folder / "embedded.toml"
        config.write_text(
            CONFIG.format(
                address=f"{address.host}:{address.port}",
                packet=MAX_PACKET,
                segment=SEGMENT,
                segments=SEGMENTS,
            )
        )
        return this_python("embedded", str(config))


def is_installed() -> bool:
    """Return whether the package is there; a server without it needs Mosquitto or a URL."""
    return importlib.util.find_spec("iotcore") is not None
