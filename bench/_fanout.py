"""A recall to many connected devices, against a raw publish to the same ones.

The devices are bare MQTT 3.1.1 sessions in one process of their own; server, broker and
signatures are the real ones.
"""

import json
import resource
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import select
from tests.support.fleet import FleetUnderTest
from tests.support.mqtt import Peer
from tests.support.server import PASSPHRASE, ServerUnderTest
from tests.support.system import find_program

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.topics import RECALLS
from modelfleet_server.app import Duty
from modelfleet_server.bridge.tables import Outbox
from modelfleet_server.broker.address import Address
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.trust import approving, proposals, recalling
from modelfleet_server.trust.approver import open_approver
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.domain import Kind
from modelfleet_server.trust.proposals import Publisher

ROUNDS = 5
FEW = 3500
"""What the embedded broker takes, where no Mosquitto is installed."""

SPARE_FILES = 500


@dataclass(frozen=True)
class Recalled:
    """Medians, in seconds from the beginning to the last of `devices`."""

    devices: int
    recall_s: float
    raw_s: float


def measure_recall(devices: int) -> Recalled:
    """Start a server, connect devices, and recall and publish in turns."""
    broker = "mosquitto" if find_program("mosquitto") else "embedded"
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    devices = min(devices, most - SPARE_FILES, devices if broker == "mosquitto" else FEW)
    with tempfile.TemporaryDirectory() as folder:
        server = ServerUnderTest.start(
            Path(folder) / "home",
            duties=frozenset({Duty.API, Duty.BRIDGE, Duty.SIGNER}),
            broker=broker,
        )
        try:
            return _measure(server, devices)
        finally:
            server.stop()
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))


def _measure(server: ServerUnderTest, devices: int) -> Recalled:
    ends = server.server.endpoints
    address = Address(ends.mqtt_host, ends.mqtt_port)
    fleet = _fleet(server)
    command = [sys.executable, "-m", "bench._fanout", address.host, str(address.port)]
    crowd = subprocess.Popen(
        [*command, str(devices)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    peer = Peer(address, "bench-raw")
    recalls, raws = [], []
    try:
        _hear(crowd)  # all have the retained message
        for number in range(ROUNDS):
            recalls.append(_recall(server, fleet, crowd, number))
            payload = _payload(server)
            _expect(crowd)
            begin = time.monotonic()
            peer.publish(RECALLS, payload, retain=True)
            raws.append(_hear(crowd) - begin)
    finally:
        peer.leave()
        crowd.kill()
        crowd.wait()
    return Recalled(devices, statistics.median(recalls), statistics.median(raws))


def _recall(
    server: ServerUnderTest,
    fleet: FleetUnderTest,
    crowd: "subprocess.Popen[str]",
    number: int,
) -> float:
    """Return the seconds from the last signature to the last device."""
    name = sha256(f"bad {number}".encode())
    with server.database.write() as session:
        what = recalling.find_recalled(session, name, allow_unlisted=True)
        proposal = recalling.propose_recall(
            session, Kind.STOP, what, "drifts", actor="user:bench", now_ms=now_ms()
        )
        copy, held = fleet.copy_of(session, proposal), fleet.in_force(session, proposal)
        signatures = approving.sign(copy, fleet.approver, held)
        proposal_id = proposal.id
    _expect(crowd)
    begin = time.monotonic()
    with server.database.write() as session:
        proposals.attach(
            session,
            fleet.publisher,
            proposal_id,
            signatures,
            actor="user:bench",
            now_ms=now_ms(),
        )
    return _hear(crowd) - begin


def _fleet(server: ServerUnderTest) -> FleetUnderTest:
    path = server.server.settings.home / "approver.key"
    director = server.parts.get(Director)
    return FleetUnderTest(
        fleet=director.fleet,
        approver=open_approver(path, PASSPHRASE),
        director=director,
        publisher=server.parts.get(Publisher),
        approver_path=path,
    )


def _payload(server: ServerUnderTest) -> bytes:
    with server.database.read() as session:
        return session.exec(select(Outbox).where(Outbox.topic == RECALLS)).one().payload


def _expect(crowd: "subprocess.Popen[str]") -> None:
    """Have the devices wait for one message more."""
    assert crowd.stdin
    crowd.stdin.write("again\n")
    crowd.stdin.flush()


def _hear(crowd: "subprocess.Popen[str]") -> float:
    """Return when the last device had the message, on the machine's monotonic clock."""
    assert crowd.stdout
    line = crowd.stdout.readline()
    if not line:
        raise RuntimeError("the devices ended")
    return float(json.loads(line))


# the devices, in a process of their own


class Crowd:
    """Many sessions that subscribe to the recalls and acknowledge what comes."""

    def __init__(self, host: str, port: int, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._buffers: dict[int, bytearray] = {}
        self._heard: set[int] = set()
        self.count = count
        for number in range(count):
            plug = socket.create_connection((host, port))
            plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plug.sendall(_connect(f"sim-{number}") + _subscribe(RECALLS))
            self._buffers[plug.fileno()] = bytearray()
            self._selector.register(plug, selectors.EVENT_READ, plug)
            if number % 200 == 0:
                self._turn(0)

    def hear(self) -> float:
        """Wait until every session has heard one message; return when that was."""
        while len(self._heard) < self.count:
            self._turn(120)
        self._heard.clear()
        return time.monotonic()

    def _turn(self, timeout_s: float) -> None:
        ready = self._selector.select(timeout_s)
        if timeout_s and not ready:
            raise RuntimeError("some sessions hear nothing")
        for key, _ in ready:
            plug: socket.socket = key.data
            data = plug.recv(1 << 16)
            if not data:
                raise RuntimeError("the broker closed a session")
            buffer = self._buffers[key.fd]
            buffer += data
            self._take(plug, buffer, key.fd)

    def _take(self, plug: socket.socket, buffer: bytearray, number: int) -> None:
        while (found := _packet(buffer)) is not None:
            kind, body, size = found
            if kind >> 4 == 3:
                self._heard.add(number)
                if kind & 6:
                    at = 2 + struct.unpack_from(">H", body)[0]
                    plug.sendall(b"\x40\x02" + body[at : at + 2])
            del buffer[:size]


def _connect(name: str) -> bytes:
    body = b"\x00\x04MQTT\x04\x02\x02\x58" + struct.pack(">H", len(name)) + name.encode()
    return bytes([0x10, len(body)]) + body


def _subscribe(topic: str) -> bytes:
    body = b"\x00\x01" + struct.pack(">H", len(topic)) + topic.encode() + b"\x01"
    return bytes([0x82, len(body)]) + body


def _packet(buffer: bytearray) -> tuple[int, bytes, int] | None:
    length, shift, at = 0, 0, 1
    while True:
        if len(buffer) <= at:
            return None
        length |= (buffer[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if not buffer[at - 1] & 128:
            break
    if len(buffer) < at + length:
        return None
    return buffer[0], bytes(buffer[at : at + length]), at + length


def main() -> None:
    host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd(host, port, count)
    print(json.dumps(crowd.hear()), flush=True)
    for _ in sys.stdin:
        print(json.dumps(crowd.hear()), flush=True)


if __name__ == "__main__":
    main()
