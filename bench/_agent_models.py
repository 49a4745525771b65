"""Models of known size and cost for the agent's benchmark, and releases made of them."""

import hashlib
from io import BytesIO
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from modelfleet_agent.store import FileEntry, Placed, Record, Store


def layers(count: int, width: int, *, rows: int, seed: int, nudge: float = 0.0) -> bytes:
    """`count` square layers; 4 * count * width^2 bytes of weights. x: [rows, width]."""
    rng = np.random.default_rng(seed)
    nodes, constants, name = [], {}, "x"
    for number in range(count):
        weights = rng.normal(size=(width, width)).astype(np.float32) / width**0.5
        if nudge:
            weights *= 1 + nudge * rng.normal(size=weights.shape).astype(np.float32)
        constants[f"w{number}"] = weights
        after = "y" if number == count - 1 else f"h{number}"
        nodes += [
            helper.make_node("MatMul", [name, f"w{number}"], [f"m{number}"]),
            helper.make_node("Relu", [f"m{number}"], [after]),
        ]
        name = after
    return _model(nodes, constants, [rows, width], [rows, width])


def small(bias: float) -> bytes:
    """A model that costs nothing: 64 numbers in, one vector out."""
    constants = {"w": np.eye(64, dtype=np.float32), "b": np.full(64, bias, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    return _model(nodes, constants, [1, 64], [1, 64])


def image() -> bytes:
    """1.2 MB in (3 by 320 by 320), three numbers out."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["y"])]
    return _model(nodes, {}, [1, 3, 320, 320], [1, 3, 1, 1])


def _model(
    nodes: list[Any], constants: dict[str, Any], takes: list[int], gives: list[int]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, takes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, gives)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def golden(model: bytes) -> bytes:
    """Golden inputs and what the model answers."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    file = BytesIO()
    arrays: dict[str, Any] = {"in.x": x, "out.y": session.run(None, {"x": x})[0]}
    np.savez(file, **arrays)
    return file.getvalue()


def release(store: Store, model: bytes, version: str) -> Placed:
    """Store a model with its golden inputs."""

    def put(name: str, data: bytes) -> FileEntry:
        digest = hashlib.sha256(data).hexdigest()
        if not store.path_of(digest).exists():
            store.incoming(digest).write_bytes(data)
            store.adopt(digest, len(data))
        return FileEntry(name, digest, len(data))

    record = Record(
        release=hashlib.sha256(version.encode()).hexdigest(),
        model="bench/model",
        version=version,
        profile="generic",
        files=(put("model.onnx", model),),
        golden=put("golden.npz", golden(model)),
        atol="0.01",
        rtol="0.01",
    )
    store.put(record)
    return store.place(record)
