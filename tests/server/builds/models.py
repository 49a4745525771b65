"""Small ONNX models and data sets for tests, made in code."""

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from modelfleet_server import demo

ASSETS = Path(demo.__file__).parent / "assets"
EVALUATION = ASSETS / "digits.eval.npz"
CALIBRATION = ASSETS / "digits.calibration.npz"


def digits(version: str = "1.0.0") -> Path:
    return ASSETS / f"digits-{version}.onnx"


def dense(
    *nodes: NodeProto,
    opset: int = 17,
    batch: int | str = "n",
    weights: np.ndarray | None = None,
    extra_imports: tuple[tuple[str, int], ...] = (),
) -> ModelProto:
    """A classifier of 4 numbers into 3 classes; `nodes` come between `x` and `h`."""
    body = list(nodes) or [helper.make_node("Relu", ["x"], ["h"])]
    matrix = np.eye(4, 3, dtype=np.float32) if weights is None else weights
    graph = helper.make_graph(
        [*body, helper.make_node("MatMul", ["h", "w"], ["scores"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(matrix, "w")],
    )
    imports = [helper.make_opsetid(*item) for item in (("", opset), *extra_imports)]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = 8
    return model


def wide(*, opset: int = 17, weights: np.ndarray | None = None) -> ModelProto:
    """The dense model by way of 512 numbers: large enough that int8 makes it smaller."""
    model = dense(
        helper.make_node("MatMul", ["x", "up"], ["many"]),
        helper.make_node("MatMul", ["many", "down"], ["h"]),
        opset=opset,
        weights=weights,
    )
    up = np.tile(np.eye(4, dtype=np.float32), 128)
    model.graph.initializer.extend(
        [numpy_helper.from_array(up, "up"), numpy_helper.from_array(up.T / 128, "down")]
    )
    return model


def save(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def with_external_weights(folder: Path, location: str, *, length: int = 48) -> Path:
    """The dense model whose weights are said to lie at `location`."""
    model = dense()
    set_external_data(model.graph.initializer[0], location, offset=0, length=length)
    model.graph.initializer[0].ClearField("raw_data")
    return save(model, folder / "model.onnx")


def weight_bytes() -> bytes:
    return np.eye(4, 3, dtype=np.float32).tobytes()


def write_set(path: Path, samples: int = 60, seed: int = 3, **extra: np.ndarray) -> Path:
    """Samples of the dense model's classes, which it gets right."""
    rng = np.random.default_rng(seed)
    x = rng.random((samples, 4), np.float32)
    y = x[:, :3].argmax(axis=1)
    np.savez_compressed(path, **{"x": x, "y": y, **extra})
    return path


def load(path: Path) -> ModelProto:
    return onnx.load(path)


def endless() -> ModelProto:
    """A model that passes every static check and never gives an answer."""
    flag = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n", 4])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["v"], ["same"]),
        ],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), flag, value],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n", 4]),
        ],
    )
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return dense(
        helper.make_node("Constant", [], ["true"], value=yes),
        helper.make_node("Loop", ["", "true", "x"], ["h"], body=body),
    )


def greedy(gigabytes: int) -> ModelProto:
    """A model of a few bytes that wants so much memory when it runs."""
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    shape = helper.make_tensor("s", TensorProto.INT64, [1], [gigabytes << 28])
    return dense(
        helper.make_node("Constant", [], ["shape"], value=shape),
        helper.make_node("ConstantOfShape", ["shape"], ["much"], value=zero),
        helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["h"]),
    )
