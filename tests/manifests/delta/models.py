"""Small ONNX models for the delta tests, with every place where a tensor can stand."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int32", "int64", "bool")


def make_weights(
    seed: int, dtype: str = "float32", shape: tuple[int, ...] = (64, 96)
) -> NDArray[Any]:
    generator = np.random.default_rng(seed)
    values = generator.normal(0, 0.05, shape)
    if dtype.startswith("float"):
        return values.astype(dtype)
    return (values * 600).clip(-100, 100).astype("int8").astype(dtype)


def fine_tune(weights: NDArray[Any], seed: int, rate: float = 1e-4) -> NDArray[Any]:
    generator = np.random.default_rng(seed)
    if weights.dtype.kind == "f":
        rows = generator.normal(1, 1e-3, (weights.shape[0],) + (1,) * (weights.ndim - 1))
        moved = weights * rows + generator.normal(0, rate, weights.shape)
        return moved.astype(weights.dtype)
    steps = weights.astype(np.int64) + generator.integers(-1, 2, weights.shape)
    return steps.astype(weights.dtype)


def make_model(
    tensors: dict[str, NDArray[Any]], *, inner: NDArray[Any] | None = None
) -> bytes:
    """Serialize a model of these initializers; `inner` is a Constant in an If branch."""
    nodes = [helper.make_node("Identity", ["x"], ["y"], name="pass")]
    if inner is not None:
        branch = helper.make_graph(
            [
                helper.make_node(
                    "Constant",
                    [],
                    ["c"],
                    name="const",
                    value=numpy_helper.from_array(inner),
                )
            ],
            "branch",
            [],
            [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)],
        )
        nodes.append(
            helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch)
        )
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.BOOL, [])],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model: onnx.ModelProto = helper.make_model(graph, producer_name="test")
    return bytes(model.SerializeToString(deterministic=True))
