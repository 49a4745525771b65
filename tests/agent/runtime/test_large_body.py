"""A large body is received where it is read, however it is cut, and what follows it too."""

import json
import socket

import pytest
from tests.agent import models
from tests.agent.runtime.conftest import SLOT, Http, serve

from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.runtime.largebody import LEAST, MOST
from modelfleet_agent.store import Store

ROWS = 20_000  # of four numbers: 320 kB
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def large_request(rows: int = ROWS) -> bytes:
    size = rows * 16
    tensor = {"name": "x", "shape": [rows, 4], "datatype": "FP32"}
    asked = {
        "inputs": [tensor | {"parameters": {"binary_data_size": size}}],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(asked).encode()
    start = (
        f"POST /v2/models/{SLOT}/infer HTTP/1.1\r\nHost: x\r\n"
        f"Inference-Header-Content-Length: {len(head)}\r\n"
        f"Content-Length: {len(head) + size}\r\n\r\n"
    )
    return start.encode() + head + bytes(size)


@pytest.fixture
def address(client: RuntimeClient, store: Store) -> tuple[str, int]:
    serve(client, models.good(store))
    assert client.ready
    return "127.0.0.1", client.ready.port or 0


@pytest.mark.parametrize("cut", [1, 50, 1_000, 65_536, 300_000])
@pytest.mark.parametrize("rows", [LEAST // 16, ROWS, MOST // 16 + 1])
def test_it_is_answered_as_any_other_and_so_is_what_comes_after(
    address: tuple[str, int], cut: int, rows: int
) -> None:
    wish = large_request(rows)
    with socket.create_connection(address) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.sendall(wish[:cut])
        raw.sendall(wish[cut:] + wish + LIVE)
        answer = b"".join(iter(lambda: raw.recv(1 << 20), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(f'"shape":[{rows},3]'.encode()) == 2


def test_a_client_that_leaves_in_the_middle_costs_nothing(
    client: RuntimeClient, address: tuple[str, int]
) -> None:
    for _ in range(3):
        with socket.create_connection(address) as raw:
            raw.sendall(large_request()[:-1])
    assert Http(client).infer()[0] == 200
