"""Weights of matrix products as four-bit numbers, in blocks that share a scale.

ONNX Runtime's own quantizer needs a package that nothing else here does; the layout of its
operator MatMulNBits is public and short.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from modelfleet_server.builds.errors import BuildError

_MIDDLE = 8
"""What 0 is stored as: the operator's zero point where none is given."""


def quantize_blocks(model: ModelProto, block: int) -> ModelProto:
    """Return `model` with every product by a constant float matrix in four bits.

    Args:
        model: Changed in place.
        block: Rows of a column that share a scale.

    Raises:
        BuildError: There is no such product.
    """
    weights = {t.name: t for t in model.graph.initializer}
    done: dict[str, list[TensorProto]] = {}
    for node in model.graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None or len(weight.dims) != 2 or weight.data_type != TensorProto.FLOAT:  # noqa: PLR2004
            continue
        if weight.name not in done:
            done[weight.name] = _pack(weight.name, numpy_helper.to_array(weight), block)
        _rewrite(node, [t.name for t in done[weight.name]], tuple(weight.dims), block)
    if not done:
        raise BuildError("it has no product by a constant matrix", "Use another recipe.")
    still = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name not in done or t.name in still]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *(t for ts in done.values() for t in ts)])
    if all(item.domain != "com.microsoft" for item in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def _rewrite(node: NodeProto, parts: list[str], shape: tuple[int, ...], block: int) -> None:
    rows, columns = shape
    changed = helper.make_node(
        "MatMulNBits",
        [node.input[0], *parts],
        list(node.output),
        node.name,
        domain="com.microsoft",
        K=rows,
        N=columns,
        bits=4,
        block_size=block,
        accuracy_level=4,
    )
    node.CopyFrom(changed)


def _pack(name: str, matrix: NDArray[np.float32], block: int) -> list[TensorProto]:
    """Return the packed numbers [columns, blocks, block / 2] and their scales."""
    rows, columns = matrix.shape
    count = -(-rows // block)
    padded = np.zeros((columns, count * block), np.float32)
    padded[:, :rows] = matrix.T
    blocks = padded.reshape(columns, count, block)
    # the largest of a block becomes -8, which four bits reach, unlike 8
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(2)[..., None], 2)
    scales = (largest / -_MIDDLE).astype(np.float32)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
    numbers = np.clip(np.rint(blocks * inverse) + _MIDDLE, 0, 15).astype(np.uint8)
    packed = numbers[..., ::2] | numbers[..., 1::2] << 4
    return [
        numpy_helper.from_array(packed, f"{name}_q4"),
        numpy_helper.from_array(scales.reshape(-1), f"{name}_q4_scales"),
    ]
