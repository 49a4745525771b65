"""What an application written for Triton does; run with `tritonclient[http]` and numpy.

`python triton_client.py HOST:PORT MODEL`: MODEL takes `in_<datatype>` and gives it back as
`out_<datatype>`. Prints one JSON object; a failed check is an exception.
"""

import importlib
import json
import sys
from typing import Any

import numpy as np

triton: Any = None  # the test reads `VALUES` without it
VALUES: dict[str, Any] = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([[0, 255], [1, 2]], np.uint8),
    "UINT64": np.array([[0, 2**64 - 1], [1, 2]], np.uint64),
    "INT16": np.array([[-32768, 32767], [1, 2]], np.int16),
    "INT64": np.array([[-(2**63), 2**63 - 1], [1, 2]], np.int64),
    "FP16": np.array([[0.5, -65504], [1, 2]], np.float16),
    "FP32": np.array([[0.25, -3.4e38], [1, 2]], np.float32),
    "FP64": np.array([[0.1, -1.7e308], [1, 2]], np.float64),
    "BYTES": np.array([[b"", "grüße".encode()], [b"x", b"y" * 99]], np.object_),
}


def main(url: str, model: str) -> None:
    client = triton.InferenceServerClient(url, concurrency=4)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    version = client.get_model_metadata(model)["versions"][0]
    assert client.is_model_ready(model, version)
    assert not client.is_model_ready(model, "9.9.9")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_config(model)["max_batch_size"] == 0
    assert client.get_model_repository_index()[0]["state"] == "READY"
    client.load_model(model)
    for binary in (True, False):
        infer_all(client, model, version, binary=binary)
    packed(client, model)
    wait_for_many(client, model)
    refusal = ""
    try:
        client.infer("nobody", inputs(binary=True))
    except triton.InferenceServerException as error:
        refusal = str(error)
    statistics = client.get_inference_statistics(model, version)["model_stats"][0]
    print(json.dumps({"refusal": refusal, "count": statistics["inference_count"]}))


def inputs(*, binary: bool, names: Any = None) -> list[Any]:
    made = []
    for name, value in VALUES.items():
        if not binary and name == "FP16":
            continue  # the client sends it as bytes only
        one = triton.InferInput(f"in_{name}", value.shape, name)
        one.set_data_from_numpy(value, binary_data=binary)
        made.append(one)
    return made


def infer_all(client: Any, model: str, version: str, *, binary: bool) -> None:
    feeds = inputs(binary=binary)
    if not binary:
        half = triton.InferInput("in_FP16", (2, 2), "FP16")
        half.set_data_from_numpy(VALUES["FP16"], binary_data=True)
        feeds.append(half)
    wishes = [
        triton.InferRequestedOutput(f"out_{name}", binary_data=binary or name == "FP16")
        for name in VALUES
    ]
    answer = client.infer(
        model, feeds, outputs=wishes, model_version=version, request_id="7"
    )
    response = answer.get_response()
    assert response["id"] == "7"
    assert response["parameters"]["modelfleet_digest"]
    assert response["parameters"]["modelfleet_release"]
    for name, value in VALUES.items():
        found = answer.as_numpy(f"out_{name}")
        if name == "BYTES" and not binary:
            found = np.array([one.encode() for one in found.ravel()], np.object_)
            found = found.reshape(value.shape)
        assert (found == value).all(), (name, found)
        assert found.dtype == value.dtype, name


def packed(client: Any, model: str) -> None:
    for coding in ("gzip", "deflate"):
        answer = client.infer(
            model,
            inputs(binary=True),
            request_compression_algorithm=coding,
            response_compression_algorithm=coding,
        )
        assert (answer.as_numpy("out_FP32") == VALUES["FP32"]).all()


def wait_for_many(client: Any, model: str) -> None:
    feeds = inputs(binary=True)
    waiting = [client.async_infer(model, feeds) for _ in range(16)]
    for one in waiting:
        assert (one.get_result().as_numpy("out_INT64") == VALUES["INT64"]).all()


if __name__ == "__main__":
    triton = importlib.import_module("tritonclient.http")
    main(sys.argv[1], sys.argv[2])
