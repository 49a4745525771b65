"""A real HTTP server on loopback for a `SoloFleet`, with faults that a test asks for."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from tests.support.solo import SoloFleet, random_id

from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey

RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; only what is set differs from a good answer.

    Attributes:
        status: Answer with this status and no body.
        cut: Close the connection after so many bytes of the body.
        body: Send these bytes instead.
        etag: Send this ETag.
        no_range: Answer 200 with everything where a range was asked for.
        range_text: Send this Content-Range.
        ignore_if_range: Send the range although If-Range names another ETag.
        stall: After `cut` bytes send nothing more, and keep the connection open.
        drip: Send the body byte by byte, one each so many seconds.
    """

    status: int | None = None
    cut: int | None = None
    body: bytes | None = None
    etag: str | None = None
    no_range: bool = False
    range_text: str | None = None
    ignore_if_range: bool = False
    stall: bool = False
    drip: float = 0


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    range: str | None
    if_range: str | None
    token: str | None


@dataclass
class FleetServer:
    """The running server.

    Attributes:
        fleet: Whose files it serves.
        tells_time: It answers what time it is.
        url: Base URL.
        claims: Claim token -> device id.
        mqtt: What enrolment answers for the broker.
        requests: What came in, in order.
        ending: Set when it stops: nothing stalls any more.
    """

    fleet: SoloFleet
    tells_time: bool = True
    url: str = ""
    claims: dict[str, str] = field(default_factory=dict)
    mqtt: tuple[str, int] = ("127.0.0.1", 1883)
    requests: list[Seen] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)
    _faults: dict[str, list[Fault]] = field(default_factory=dict)
    _enrolled: dict[str, dict[str, Any]] = field(default_factory=dict)

    def break_next(self, path: str, *faults: Fault) -> None:
        """Let the next answers below `path` fail, one after the other."""
        self._faults.setdefault(path, []).extend(faults)

    def take_fault(self, path: str) -> Fault:
        """Return the fault of this answer."""
        queued = self._faults.get(path)
        return queued.pop(0) if queued else Fault()

    def find(self, path: str) -> bytes | None:
        """Return the file at a path."""
        files = self.fleet.files
        match path.split("/")[1:]:
            case ["tuf", "metadata", name]:
                return files.metadata.get(unquote(name))
            case ["tuf", "targets", *rest]:
                return files.targets.get("/".join(rest))
            case ["tuf", "time", nonce]:
                return self.fleet.time_token(nonce) if self.tells_time else None
            case ["blobs", "sha256", digest]:
                return files.blobs.get(digest)
            case ["deltas", new, old] if (new, old) in files.deltas:
                return json.dumps(files.deltas[new, old]).encode()
            case _:
                return None

    def enrol(self, wish: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer an enrolment as the server does: one key per claim token."""
        token, key = wish["token"], PublicKey(wish["public_key"])
        digest = hashlib.sha256(token.encode()).digest()
        try:
            key.verify(
                b"mf-enrol-1" + digest + bytes.fromhex(key.hex),
                bytes.fromhex(wish["proof"]),
            )
        except ManifestError:
            return _problem(422, "bad-proof", "the proof does not fit the key")
        if token not in self.claims:
            return _problem(404, "claim-unknown", "this claim token is not known")
        held = self._enrolled.get(token)
        if held is not None and held["report_key"] != key.fingerprint:
            return _problem(409, "claim-used", "this claim token was used already")
        if held is None:
            held = self._enrolled[token] = {
                "device": self.claims[token],
                "enrolment": random_id(),
                "incarnation": 1,
                "fleet": self.fleet.id,
                "root": self.fleet.root.decode(),
                "token": f"token-of-{self.claims[token]}",
                "mqtt": {"host": self.mqtt[0], "port": self.mqtt[1]},
                "report_key": key.fingerprint,
            }
        return 201, held


def _problem(status: int, code: str, detail: str) -> tuple[int, dict[str, Any]]:
    return status, {"status": status, "code": code, "detail": detail, "hint": "ask again"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fleet_server: FleetServer
    timeout = 20

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent; `FleetServer.requests` has it all."""

    def do_POST(self) -> None:
        """Enrolment."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._note()
        fault = self.fleet_server.take_fault(self.path)
        status, answer = self.fleet_server.enrol(json.loads(body))
        data = json.dumps(answer).encode() if fault.body is None else fault.body
        self._send(fault.status or status, {}, data, fault)

    def do_GET(self) -> None:
        """Files."""
        self._note()
        fault = self.fleet_server.take_fault(self.path)
        data = self.fleet_server.find(self.path)
        if fault.status or data is None:
            return self._send(fault.status or 404, {}, b"", fault)
        data = data if fault.body is None else fault.body
        etag = fault.etag or f'"{self.path.rpartition("/")[2]}"'
        asked = self._asked(etag, fault)
        if asked is None:
            return self._send(200, {"ETag": etag}, data, fault)
        start, end = asked[0], min(asked[1], len(data))
        if start >= len(data):
            return self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"", fault)
        text = fault.range_text or f"bytes {start}-{end - 1}/{len(data)}"
        headers = {"ETag": etag, "Content-Range": text}
        return self._send(206, headers, data[start:end], fault)

    def _asked(self, etag: str, fault: Fault) -> tuple[int, int] | None:
        wanted = RANGE.fullmatch(self.headers.get("Range", ""))
        known = self.headers.get("If-Range", etag)
        if (
            wanted is None
            or fault.no_range
            or (known != etag and not fault.ignore_if_range)
        ):
            return None
        return int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else 1 << 62

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, fault: Fault
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body if fault.cut is None else body[: fault.cut]
        if fault.drip:
            for byte in sent:
                self.wfile.write(bytes([byte]))
                self.fleet_server.ending.wait(fault.drip)
        else:
            self.wfile.write(sent)
        if fault.stall:
            self.fleet_server.ending.wait(60)
        if fault.cut is not None:
            self.close_connection = True

    def _note(self) -> None:
        self.fleet_server.requests.append(
            Seen(
                self.command,
                self.path,
                self.headers.get("Range"),
                self.headers.get("If-Range"),
                self.headers.get("Authorization"),
            )
        )


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is what the tests are about."""


@contextmanager
def serve(fleet: SoloFleet) -> Iterator[FleetServer]:
    """Serve a fleet's files on a free loopback port."""
    server = FleetServer(fleet)
    handler = type("Handler", (_Handler,), {"fleet_server": server})
    httpd = _Quiet(("127.0.0.1", 0), handler)
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join(5)


def metadata_path(name: str) -> str:
    """Return the URL path of a metadata file."""
    return f"/tuf/metadata/{quote(name, '')}"
