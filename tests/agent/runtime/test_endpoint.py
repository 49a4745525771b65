"""The local endpoint speaks the Open Inference Protocol V2."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.agent import models
from tests.agent.runtime.conftest import SLOT, Http, X, serve

from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store import Placed, Store

INFER = f"/v2/models/{SLOT}/infer"
Tensor = dict[str, Any]


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RuntimeClient, Placed]]:
    """One child for all tests that change nothing of it."""
    folder = tmp_path_factory.mktemp("endpoint")
    placed = models.good(Store(folder / "agent"))
    client = RuntimeClient(RuntimeSettings(socket=folder / "s.sock", body_mb=1))
    client.start()
    serve(client, placed)
    yield client, placed
    client.stop()


@pytest.fixture
def http(shared: tuple[RuntimeClient, Placed]) -> Http:
    return Http(shared[0])


def tensor(**changes: object) -> Tensor:
    return {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X} | changes


def expected(x: list[float]) -> list[float]:
    weights = np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32)
    return (np.array(x, np.float32).reshape(-1, 4) @ weights).ravel().tolist()


def test_health_and_metadata_are_there_before_and_after_a_model_is_active(
    client: RuntimeClient, store: Store
) -> None:
    http = Http(client)
    assert http.get("/v2/health/live")[0] == 200
    assert http.get("/v2/health/ready")[0] == 503
    assert http.get(f"/v2/models/{SLOT}/ready")[0] == 404
    serve(client, models.good(store))
    assert http.get("/v2/health/ready")[0] == 200
    assert http.get(f"/v2/models/{SLOT}/ready")[0] == 200
    client.unload(SLOT)
    assert http.infer()[0] == 404


def test_the_server_says_what_it_is(http: Http) -> None:
    status, content = http.get("/v2")
    assert status == 200
    assert content["name"] == "modelfleet"
    assert "binary_tensor_data" in content["extensions"]


@pytest.mark.parametrize("version", ["", "/versions/1.0.0"])
def test_a_model_says_what_it_takes_and_gives(http: Http, version: str) -> None:
    status, content = http.get(f"/v2/models/{SLOT}{version}")
    assert status == 200
    assert content["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert content["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    assert content["versions"] == ["1.0.0"]


def test_an_answer_names_the_release_and_digest_that_gave_it(
    http: Http, shared: tuple[RuntimeClient, Placed]
) -> None:
    record = shared[1].record
    status, content = http.infer(id="42")
    assert status == 200
    assert content["id"] == "42"
    assert content["model_name"] == SLOT
    assert content["model_version"] == "1.0.0"
    assert content["parameters"] == {
        "modelfleet_release": record.release,
        "modelfleet_digest": record.digest,
    }
    (output,) = content["outputs"]
    assert output["shape"] == [1, 3]
    assert output["data"] == pytest.approx(expected(X), rel=1e-4)


def test_nested_data_and_chosen_outputs_are_taken(http: Http) -> None:
    body = {"inputs": [tensor(shape=[2, 4], data=[X, X])], "outputs": [{"name": "y"}]}
    status, content = http.post(INFER, body)
    assert status == 200
    assert content["outputs"][0]["data"] == pytest.approx(expected(X + X), rel=1e-4)


@pytest.mark.parametrize("padding", range(4))
def test_binary_tensors_go_both_ways(http: Http, padding: int) -> None:
    data = np.array(X, "<f4").tobytes()
    wish = {
        "id": "x" * padding,  # moves the bytes off their alignment
        "inputs": [tensor(data=None, parameters={"binary_data_size": len(data)})],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }
    del wish["inputs"][0]["data"]  # type: ignore[attr-defined]
    head = json.dumps(wish).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    http.connection.request("POST", INFER, head + data, headers)
    response = http.connection.getresponse()
    answer = response.read()
    length = int(response.headers["Inference-Header-Content-Length"])
    output = json.loads(answer[:length])["outputs"][0]
    assert output["parameters"]["binary_data_size"] == len(answer) - length == 12
    assert struct.unpack("<3f", answer[length:]) == pytest.approx(expected(X), rel=1e-4)


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        ([tensor(shape=[1, 5])], "shape"),
        ([tensor(shape=[4])], "shape"),
        ([tensor(shape=[-1, 4])], "shape"),
        ([tensor(datatype="FP64")], "datatype"),
        ([tensor(datatype="STRING")], "datatype"),
        ([tensor(data=[1, 2, 3])], "reshape"),
        ([tensor(data=["a", "b", "c", "d"])], "kind"),
        ([tensor(data=[[1], [2, 3]])], "input 'x'"),
        ([tensor(name="z")], "'z'"),
        ([tensor(), tensor()], "once"),
        ([], "missing"),
        ([tensor(parameters={"binary_data_size": 99})], "binary_data_size"),
        ([{"name": "x"}], "shape"),
    ],
)
def test_a_tensor_that_does_not_fit_is_400_and_named(
    http: Http, inputs: list[Tensor], word: str
) -> None:
    status, content = http.post(INFER, {"inputs": inputs})
    assert status == 400
    assert list(content) == ["error"]
    assert word in content["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("GET", f"/v2/models/{SLOT}/versions/9.9.9", 404),
        ("POST", f"/v2/models/{SLOT}/versions/9.9.9/infer", 404),
        ("GET", "/elsewhere", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
    ],
)
def test_what_is_not_there_says_so(http: Http, method: str, path: str, status: int) -> None:
    http.connection.request(method, path, b"{}" if method == "POST" else None)
    response = http.connection.getresponse()
    assert response.status == status
    assert json.loads(response.read())["error"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"not json", {}),
        (b"[]", {}),
        (b'{"inputs": 3}', {}),
        (b"{}", {"Inference-Header-Content-Length": "99"}),
        (b"{}", {"Inference-Header-Content-Length": "-1"}),
    ],
)
def test_a_body_that_is_no_request_is_400(
    http: Http, body: bytes, headers: dict[str, str]
) -> None:
    status, content = http.post(INFER, body, headers)
    assert status == 400
    assert content["error"]


def test_a_body_over_the_limit_is_413_and_the_rest_goes_on(http: Http) -> None:
    status, content = http.post(INFER, bytes(1_100_000))
    assert status == 413
    assert "1048576" in content["error"]
    assert http.infer()[0] == 200


def test_one_connection_takes_many_requests_even_sent_at_once(
    shared: tuple[RuntimeClient, Placed],
) -> None:
    ready = shared[0].ready
    assert ready is not None
    assert ready.socket is not None
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(ready.socket)
        raw.sendall(live * 20 + last)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 21


def test_what_is_not_http_is_answered_400(shared: tuple[RuntimeClient, Placed]) -> None:
    ready = shared[0].ready
    assert ready is not None
    with socket.create_connection(("127.0.0.1", ready.port or 0)) as raw:
        raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert raw.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_a_label_that_comes_back_counts_for_the_release_that_answered(
    client: RuntimeClient, store: Store
) -> None:
    one, two = models.good(store), models.good(store, 1.0, version="2.0.0")
    http = Http(client)
    serve(client, one)
    right = int(np.argmax(expected(X)))
    for number in range(4):
        http.infer(id=f"a{number}")
    serve(client, two)
    http.infer(id="b")
    for number in range(3):
        status, content = http.post("/v2/feedback", {"id": f"a{number}", "label": right})
        assert (status, content["hits"]) == (200, 1)
    assert http.post("/v2/feedback", {"id": "a3", "label": right + 1})[1]["hits"] == 0
    http.post("/v2/feedback", {"id": "b", "label": [right]})
    rows = {row.version: row for row in client.statistics().releases}
    assert (rows["1.0.0"].labelled, rows["1.0.0"].hits) == (4, 3)
    assert (rows["2.0.0"].labelled, rows["2.0.0"].hits) == (1, 1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "unknown", "label": 1}, 404),
        ({"id": "rows", "label": [1, 2]}, 400),
        ({"id": "rows"}, 400),
        ({"label": 1}, 400),
    ],
)
def test_a_label_for_nothing_is_refused(
    http: Http, body: dict[str, object], status: int
) -> None:
    http.infer(id="rows")
    assert http.post("/v2/feedback", body)[0] == status


def test_an_answer_is_judged_once(http: Http) -> None:
    http.infer(id="once")
    assert http.post("/v2/feedback", {"id": "once", "label": 0})[0] == 200
    assert http.post("/v2/feedback", {"id": "once", "label": 0})[0] == 404


def test_only_the_last_answers_are_remembered(
    start: Callable[[RuntimeSettings], RuntimeClient], store: Store
) -> None:
    client = start(RuntimeSettings(remembered=2))
    serve(client, models.good(store))
    http = Http(client)
    for name in "abc":
        http.infer(id=name)
    assert http.post("/v2/feedback", {"id": "a", "label": 0})[0] == 404
    assert http.post("/v2/feedback", {"id": "b", "label": 0})[0] == 200


def test_metrics_count_requests_by_release(client: RuntimeClient, store: Store) -> None:
    placed = models.good(store)
    serve(client, placed)
    http = Http(client)
    for _ in range(3):
        http.infer()
    status, text = http.get("/metrics")
    assert status == 200
    labels = (
        f'slot="{SLOT}",release="{placed.record.release}",version="1.0.0",'
        f'digest="{placed.record.digest}"'
    )
    lines = text.decode().splitlines()
    assert f"modelfleet_requests_total{{{labels}}} 3" in lines
    assert f'modelfleet_request_seconds_bucket{{{labels},le="+Inf"}} 3' in lines
    row = client.statistics().releases[0]
    assert (row.requests, sum(row.latency), row.errors) == (3, 3, 0)


def test_beyond_the_queue_the_answer_is_503(
    start: Callable[[RuntimeSettings], RuntimeClient], store: Store
) -> None:
    client = start(RuntimeSettings(workers=1, queue=1))
    serve(client, models.release(store, models.slow()))
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(Http(client).infer()[0]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {200, 503}
    assert client.statistics().rejected == answers.count(503)


def test_the_socket_is_for_its_owner_and_group(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "s.sock"
    client = RuntimeClient(RuntimeSettings(port=None, socket=path))
    ready = client.start()
    assert (ready.port, ready.socket) == (None, str(path))
    assert path.stat().st_mode & 0o777 == 0o660
    client.stop()
    assert not path.exists()
