"""The model that finds saturating int8 arithmetic: 64 products of the largest bytes.

Exact arithmetic sums 64 times 255 times 127. Where a processor adds pairs of products in 16
bits, as AVX2 without VNNI does, each pair is clipped at 32,767, and the sum is about half.
An agent ships these bytes and reports `u8s8_saturates` where the answer is not exact.
"""

import onnx
from onnx import TensorProto, helper

DEPTH = 64
EXACT = DEPTH * 255 * 127
SATURATED = DEPTH // 2 * 32_767


def make_probe() -> bytes:
    """Return the model, less than 200 bytes, the same every time.

    Input `a`, uint8 [1, 64], to be all 255; output `y`, int32 [1, 1].
    """
    weights = bytes([127] * DEPTH)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [1, DEPTH])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])],
        [helper.make_tensor("b", TensorProto.INT8, [DEPTH, 1], weights, raw=True)],
    )
    # old enough for every runtime in the field
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version, model.producer_name = 7, ""
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
