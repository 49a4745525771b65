"""A real runtime child, a real store, and a plain HTTP client."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from modelfleet_agent.runtime.client import RuntimeClient, RuntimeExit
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store import Placed, Store

SLOT = "linear"
SLOTS = (SLOT, "left", "right")
X = [1.0, 2.0, 3.0, 4.0]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "agent")


@pytest.fixture
def exits() -> "Exits":
    return Exits()


@pytest.fixture
def start(exits: "Exits") -> Iterator[Callable[[RuntimeSettings], RuntimeClient]]:
    """Starts clients and stops them after the test."""
    clients: list[RuntimeClient] = []

    def start_client(settings: RuntimeSettings) -> RuntimeClient:
        client = RuntimeClient(settings, on_exit=exits.add)
        clients.append(client)
        client.start()
        return client

    yield start_client
    for client in clients:
        client.stop()


@pytest.fixture(scope="session")
def relay() -> "Relay":
    return Relay()


@pytest.fixture(scope="session")
def shared_client(relay: "Relay") -> Iterator[RuntimeClient]:
    """One child for all tests that bring no settings: each start costs a good while."""
    client = RuntimeClient(RuntimeSettings(), on_exit=relay)
    yield client
    client.stop()


@pytest.fixture
def client(
    shared_client: RuntimeClient, relay: "Relay", exits: "Exits"
) -> Iterator[RuntimeClient]:
    """A running child whose slots are empty."""
    relay.exits = exits
    shared_client.start()
    yield shared_client
    shared_client.start()
    for slot in SLOTS:
        shared_client.unload(slot)


@pytest.fixture(autouse=True)
def _close_connections() -> Iterator[None]:
    yield
    while Http.opened:
        Http.opened.pop().connection.close()


class Relay:
    """Hands a death to the test that runs."""

    exits: "Exits | None" = None

    def __call__(self, ended: RuntimeExit) -> None:
        if self.exits:
            self.exits.add(ended)


class Exits:
    """Deaths of the runtime that the client noticed."""

    def __init__(self) -> None:
        self.seen: list[RuntimeExit] = []
        self._some = threading.Event()

    def add(self, ended: RuntimeExit) -> None:
        self.seen.append(ended)
        self._some.set()

    def first(self) -> RuntimeExit:
        assert self._some.wait(20), "the runtime did not die"
        return self.seen[0]


class Http:
    """One kept-alive connection to the endpoint, closed after the test."""

    opened: ClassVar[list["Http"]] = []

    def __init__(self, client: RuntimeClient) -> None:
        ready = client.ready
        assert ready is not None
        assert ready.port is not None
        self.connection = http.client.HTTPConnection("127.0.0.1", ready.port, timeout=30)
        self.opened.append(self)

    def get(self, path: str) -> tuple[int, Any]:
        self.connection.request("GET", path)
        return self._answer()

    def post(
        self, path: str, body: object, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request("POST", path, data, headers or {})
        return self._answer()

    def infer(self, x: list[float] | None = None, **fields: object) -> tuple[int, Any]:
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": x or X}
        return self.post(f"/v2/models/{SLOT}/infer", {"inputs": [tensor], **fields})

    def _answer(self) -> tuple[int, Any]:
        response = self.connection.getresponse()
        data = response.read()
        kind = response.getheader("content-type") or ""
        return response.status, json.loads(data) if kind.endswith("json") else data


def serve(client: RuntimeClient, placed: Placed, slot: str = SLOT) -> None:
    client.load(slot, placed)
    client.activate(slot, placed.record.key)
