"""A thousand swaps under load fail no request: over TCP, a Unix socket, in-process."""

import http.client
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.agent import models
from tests.agent.runtime.conftest import SLOT, X, serve
from tests.support.waiting import eventually

from modelfleet_agent.runtime import Slot
from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store import Placed, Slots, Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SWAPS = 1_000
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X}]}
)


class Asking(threading.Thread):
    """Asks without a pause until `end`; keeps what failed."""

    def __init__(self, ask: Callable[[], str]) -> None:
        super().__init__()
        self.versions: list[str] = []
        self.failures: list[BaseException] = []
        self._ask = ask
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                self.versions.append(self._ask())
            except BaseException as error:  # noqa: BLE001 - whatever it is, it failed
                self.failures.append(error)
                return

    def end(self) -> None:
        self._ended.set()
        self.join()


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def infer(connection: http.client.HTTPConnection) -> str:
    connection.request("POST", f"/v2/models/{SLOT}/infer", BODY)
    response = connection.getresponse()
    content = json.loads(response.read())
    assert response.status == 200, content
    return str(content["model_version"])


def releases(store: Store) -> list[Placed]:
    return [models.good(store, float(n), version=f"{n}.0.0") for n in range(1, 4)]


def test_over_tcp_and_a_unix_socket(
    start: Callable[[RuntimeSettings], RuntimeClient], store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "s.sock"
    client = start(RuntimeSettings(socket=path))
    placed = releases(store)
    serve(client, placed[0])
    assert client.ready
    connections = [
        http.client.HTTPConnection("127.0.0.1", client.ready.port),
        UnixConnection(str(path)),
    ]
    asking = [Asking(lambda one=one: infer(one)) for one in connections]  # type: ignore[misc]
    for one in asking:
        one.start()
    for number in range(1, SWAPS + 1):
        serve(client, placed[number % 3])
    for one in asking:
        one.end()
    for connection in connections:
        connection.close()
    assert [one.failures for one in asking] == [[], []]
    assert [set(one.versions) for one in asking] == [{"1.0.0", "2.0.0", "3.0.0"}] * 2


def test_in_process(store: Store) -> None:
    placed, slots = releases(store), Slots(store)
    slots.advance("linear", placed[0].record)
    feeds = {"x": np.ones((1, 4), np.float32)}
    with Slot("linear", store.root, follow_s=0.001) as slot:
        asking = Asking(lambda: slot.run(feeds).version)
        asking.start()
        for number in range(1, SWAPS + 1):
            record = placed[number % 3].record
            slots.advance("linear", record)
            eventually(lambda: slot.version == record.version, "it follows")  # noqa: B023
        asking.end()
    assert asking.failures == []
    assert set(asking.versions) == {"1.0.0", "2.0.0", "3.0.0"}
