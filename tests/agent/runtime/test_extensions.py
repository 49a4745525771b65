"""V2's extensions: every datatype as bytes and as JSON, repository, statistics, gzip."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from tests.agent import models
from tests.agent.runtime.conftest import SLOT, Http, X, serve

from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.runtime.tensors import DATATYPES
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store import Placed, Store

INFER = f"/v2/models/{SLOT}/infer"
KINDS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeClient]:
    client = RuntimeClient(RuntimeSettings(local_control=True, body_mb=1))
    client.start()
    store = Store(tmp_path_factory.mktemp("identities") / "agent")
    serve(client, models.release(store, models.identities(KINDS)))
    yield client
    client.stop()


def values_of(datatype: str) -> list[Any]:
    dtype = DATATYPES[datatype]
    if dtype.kind == "O":
        return ["", "grüße", "a\0b", "x" * 300]
    if dtype.kind == "b":
        return [True, False, False, True]
    if dtype.kind == "f":
        info = np.finfo(dtype)
        return [0.0, -1.5, float(info.max), float(info.tiny)]
    bounds = np.iinfo(dtype)
    return [0, 1, int(bounds.min), int(bounds.max)]


def to_bytes(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        items = [value.encode() for value in values]
        return b"".join(len(item).to_bytes(4, "little") + item for item in items)
    return np.array(values, DATATYPES[datatype]).tobytes()


def test_every_datatype_travels_as_bytes(identities: RuntimeClient) -> None:
    blocks = {name: to_bytes(name, values_of(name)) for name in KINDS}
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": f"in_{name}",
                    "shape": [2, 2],
                    "datatype": name,
                    "parameters": {"binary_data_size": len(block)},
                }
                for name, block in blocks.items()
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    http = Http(identities)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    http.connection.request("POST", INFER, head + b"".join(blocks.values()), headers)
    response = http.connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    length = int(response.headers["Inference-Header-Content-Length"])
    at = length
    for out in json.loads(body[:length])["outputs"]:
        size = out["parameters"]["binary_data_size"]
        name = out["datatype"]
        assert out["shape"] == [2, 2]
        assert body[at : at + size] == blocks[name], name
        at += size
    assert at == len(body)


def test_every_datatype_travels_as_json(identities: RuntimeClient) -> None:
    inputs = [
        {"name": f"in_{name}", "shape": [2, 2], "datatype": name, "data": values_of(name)}
        for name in KINDS
    ]
    status, content = Http(identities).post(INFER, {"inputs": inputs})
    assert status == 200, content
    found = {out["datatype"]: out["data"] for out in content["outputs"]}
    for name in KINDS:
        want = np.array(values_of(name), DATATYPES[name]).tolist()
        assert found[name] == want, name


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_a_packed_body_is_taken(
    client: RuntimeClient, store: Store, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    serve(client, models.good(store))
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X}
    body = pack(json.dumps({"inputs": [tensor]}).encode())
    assert Http(client).post(INFER, body, {"Content-Encoding": coding})[0] == 200


def test_a_packed_body_that_bursts_or_is_damaged_is_refused(
    identities: RuntimeClient,
) -> None:
    http = Http(identities)
    packed = gzip.compress(bytes(64 << 20))
    gzipped = {"Content-Encoding": "gzip"}
    assert http.post(INFER, packed, gzipped)[0] == 413
    assert http.post(INFER, packed[:100], gzipped)[0] in {400, 413}
    assert http.post(INFER, b"no gzip", gzipped)[0] == 400
    assert http.post(INFER, b"{}", {"Content-Encoding": "br"})[0] == 415


def test_the_index_names_what_is_here(client: RuntimeClient, store: Store) -> None:
    http = Http(client)
    assert http.post("/v2/repository/index", {}) == (200, [])
    serve(client, models.good(store))
    row = {"name": SLOT, "version": "1.0.0", "state": "READY", "reason": ""}
    assert http.post("/v2/repository/index", b"") == (200, [row])
    assert http.post("/v2/repository/index", {"ready": True}) == (200, [row])
    assert http.post("/v2/repository/index", {"ready": 3})[0] == 400


def test_a_local_client_closes_and_opens_a_slot_where_that_is_allowed(
    identities: RuntimeClient,
) -> None:
    http = Http(identities)
    control = f"/v2/repository/models/{SLOT}"
    assert http.post(f"{control}/unload", {})[0] == 200
    assert http.get(f"/v2/models/{SLOT}/ready")[0] == 404
    assert http.post("/v2/repository/index", {"ready": True}) == (200, [])
    assert http.post("/v2/repository/index", {})[1][0]["state"] == "UNAVAILABLE"
    assert http.post(f"{control}/load", {})[0] == 200
    assert http.get(f"/v2/models/{SLOT}/ready")[0] == 200
    assert http.post("/v2/repository/models/other/load", {})[0] == 400


def test_a_local_client_may_not_close_a_slot_otherwise(
    client: RuntimeClient, store: Store
) -> None:
    serve(client, models.good(store))
    http = Http(client)
    control = f"/v2/repository/models/{SLOT}"
    status, content = http.post(f"{control}/unload", {})
    assert status == 400
    assert "fleet decides" in content["error"]
    assert http.post(f"{control}/load", {})[0] == 200  # it is loaded: nothing to do
    assert http.infer()[0] == 200


@pytest.fixture
def placed(client: RuntimeClient, store: Store) -> Placed:
    made = models.good(store)
    serve(client, made)
    return made


@pytest.mark.parametrize(
    "path", ["/v2/models/stats", f"/v2/models/{SLOT}/stats", "versions"]
)
def test_statistics_count_and_time_requests(
    client: RuntimeClient, placed: Placed, path: str
) -> None:
    http = Http(client)
    for _ in range(3):
        http.infer()
    versions = f"/v2/models/{SLOT}/versions/1.0.0/stats"
    status, content = http.get(versions if path == "versions" else path)
    assert status == 200
    (row,) = content["model_stats"]
    assert (row["name"], row["version"], row["inference_count"]) == (SLOT, "1.0.0", 3)
    assert row["inference_stats"]["success"]["count"] == 3
    spent = row["inference_stats"]["success"]["ns"]
    assert 0 < row["inference_stats"]["compute_infer"]["ns"] <= spent
    assert row["last_inference"] > 0
    assert row["parameters"]["modelfleet_digest"] == placed.record.digest
    assert http.get("/v2/models/other/stats")[0] == 404


def test_a_model_tells_its_configuration(client: RuntimeClient, placed: Placed) -> None:
    status, content = Http(client).get(f"/v2/models/{SLOT}/config")
    assert status == 200
    assert content["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4]}]
    assert content["version_policy"]["specific"]["versions"] == [placed.record.version]
