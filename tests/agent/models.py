"""Tiny real models for the tests of the agent, and releases made of them."""

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelfleet_agent.store import FileEntry, Placed, Record, Store

ROWS, CLASSES = 4, 3


def linear(bias: float = 0.0, *, seed: int = 7) -> bytes:
    """`y = x @ w + bias` for `x: [batch, 4]`; every bias is another version."""
    weights = np.random.default_rng(seed).normal(size=(ROWS, CLASSES)).astype(np.float32)
    return _graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "b"], ["y"]),
        ],
        {"w": weights, "b": np.full(CLASSES, bias, np.float32)},
    )


def trapping(divisor: int) -> bytes:
    """`linear`, except that -1 divides the least integer while it is loaded.

    ONNX Runtime divides constants as it loads, and an x86 processor answers that quotient,
    which has no 64 bits, with a trap that ends the process.
    """
    weights = np.random.default_rng(7).normal(size=(ROWS, CLASSES)).astype(np.float32)
    return _graph(
        [
            helper.make_node("Div", ["least", "divisor"], ["quotient"]),
            helper.make_node("Cast", ["quotient"], ["bias"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "bias"], ["y"]),
        ],
        {
            "w": weights,
            "least": np.full(CLASSES, np.iinfo(np.int64).min, np.int64),
            "divisor": np.full(CLASSES, divisor, np.int64),
        },
    )


def wide(step: int = 0, *, width: int = 4096) -> bytes:
    """Two dense layers: smaller packed, and smaller still by delta from another step."""
    random = np.random.default_rng(7)
    first = random.normal(size=(ROWS, width)).astype(np.float32)
    last = random.normal(size=(width, CLASSES)).astype(np.float32)
    drift = np.random.default_rng(step).normal(size=first.shape) * 1e-3
    return _graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("MatMul", ["xw", "v"], ["y"]),
        ],
        {"w": (first * (1 + drift * (step > 0))).astype(np.float32), "v": last},
    )


def not_finite() -> bytes:
    """Divide by zero: every answer is NaN or infinite."""
    zeros = np.zeros((ROWS, CLASSES), np.float32)
    return _graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Div", ["xw", "xw"], ["y"]),
        ],
        {"w": zeros},
    )


def memory_hog(gib: int = 6) -> bytes:
    """Loads in no time and wants `gib` GiB when it runs."""
    return _graph(
        [
            helper.make_node("ConstantOfShape", ["size"], ["huge"]),
            helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Add", ["xw", "sum"], ["y"]),
        ],
        {
            "size": np.array([gib << 28], np.int64),
            "w": np.ones((ROWS, CLASSES), np.float32),
        },
    )


def endless() -> bytes:
    """Loop 2^62 times."""
    return _loop(1 << 62)


def slow(trips: int = 200_000) -> bytes:
    """Answer after a good part of a second."""
    return _loop(trips)


def _loop(trips: int) -> bytes:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["going_out"]),
            helper.make_node("Mul", ["v", "half"], ["v_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("going_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.array(0.5, np.float32), "half")],
    )
    return _graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"]),
            helper.make_node("Loop", ["trips", "yes", "xw"], ["y"], body=body),
        ],
        {
            "trips": np.array(trips, np.int64),
            "yes": np.array(True),
            "w": np.ones((ROWS, CLASSES), np.float32),
        },
    )


def identities(kinds: Mapping[str, int]) -> bytes:
    """`out_<name> = in_<name>`, one pair for each name and its ONNX element type."""

    def values(prefix: str) -> list[Any]:
        return [
            helper.make_tensor_value_info(f"{prefix}_{name}", kind, ["n", 2])
            for name, kind in kinds.items()
        ]

    nodes = [helper.make_node("Identity", [f"in_{n}"], [f"out_{n}"]) for n in kinds]
    graph = helper.make_graph(nodes, "g", values("in"), values("out"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def golden(model: bytes, *, rows: int = 2) -> bytes:
    """Golden inputs of a model that runs, as `.npz`."""
    import onnxruntime  # noqa: PLC0415 - only here: most tests need no session

    x = np.random.default_rng(1).normal(size=(rows, ROWS)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return npz(x, session.run(None, {"x": x})[0])


def npz(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> bytes:
    """The archive of golden inputs."""
    file = BytesIO()
    arrays: dict[str, Any] = {"in.x": x, "out.y": y}
    np.savez(file, **arrays)
    return file.getvalue()


def put(store: Store, name: str, data: bytes) -> FileEntry:
    """Bring bytes into the store as a download would."""
    digest = hashlib.sha256(data).hexdigest()
    if not store.has(FileEntry(name, digest, len(data))):
        store.incoming(digest).write_bytes(data)
        store.adopt(digest, len(data))
    return FileEntry(name, digest, len(data))


def release(
    store: Store, model: bytes, gold: bytes | None = None, *, version: str = "1.0.0"
) -> Placed:
    """Store a model as a release and return it placed."""
    entry = put(store, "model.onnx", model)
    record = Record(
        release=hashlib.sha256(version.encode()).hexdigest(),
        model="demo/linear",
        version=version,
        profile="generic",
        files=(entry,),
        golden=put(store, "golden.npz", gold) if gold else None,
        atol="0.0001",
        rtol="0.001",
    )
    store.put(record)
    return store.place(record)


def good(store: Store, bias: float = 0.0, *, version: str = "1.0.0") -> Placed:
    """A release that works, with golden inputs."""
    model = linear(bias)
    return release(store, model, golden(model), version=version)


def with_external_data(folder: Path, size: int = 64) -> tuple[bytes, bytes]:
    """A graph and its weights in a file of their own, named `weights.bin`."""
    weights = np.random.default_rng(3).normal(size=(ROWS, size)).astype(np.float32)
    model = onnx.load_from_string(
        _graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weights}, columns=size
        )
    )
    path = folder / "model.onnx"
    onnx.save(
        model, path, save_as_external_data=True, location="weights.bin", size_threshold=16
    )
    return path.read_bytes(), (folder / "weights.bin").read_bytes()


def _graph(nodes: list[Any], constants: dict[str, Any], *, columns: int = CLASSES) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", ROWS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", columns])],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return bytes(model.SerializeToString())
