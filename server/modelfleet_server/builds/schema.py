"""Inputs and outputs of a model in the words of the Open Inference Protocol."""

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from modelfleet_manifests.release import Schema, Tensor
from modelfleet_server.builds.errors import SchemaError

DATATYPES: dict[int, str] = {
    TensorProto.BOOL: "BOOL",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}
MAX_TENSORS = 64
MAX_RANK = 16
MAX_NAME = 200


def read_schema(model: ModelProto, name: str) -> Schema:
    """Return the schema of a model that was checked; `name` is its file, for errors.

    Raises:
        SchemaError: An input or output is no tensor, has a type that the protocol does not
            know, or a rank that is not known; there are none, or too many.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    outputs = _with_shapes(model)
    for kind, values in (("inputs", inputs), ("outputs", outputs)):
        if not 1 <= len(values) <= MAX_TENSORS:
            raise SchemaError(
                f"{name} has {len(values)} {kind}, 1 to {MAX_TENSORS} are allowed",
                "Export the model with the inputs and outputs that devices use.",
            )
    return Schema(
        inputs=[_tensor(value, "input", name) for value in inputs],
        outputs=[_tensor(value, "output", name) for value in outputs],
    )


def _with_shapes(model: ModelProto) -> list[ValueInfoProto]:
    outputs = list(model.graph.output)
    if all(value.type.tensor_type.HasField("shape") for value in outputs):
        return outputs
    return list(onnx.shape_inference.infer_shapes(model).graph.output)


def _tensor(value: ValueInfoProto, kind: str, name: str) -> Tensor:
    tensor = value.type.tensor_type
    hint = "Export the model with tensors of numbers, truth values or text."
    if not value.type.HasField("tensor_type") or tensor.elem_type not in DATATYPES:
        raise SchemaError(
            f"the {kind} {value.name!r} of {name} has a type that devices cannot exchange",
            hint,
        )
    rank = len(tensor.shape.dim)
    if not tensor.HasField("shape") or rank > MAX_RANK or len(value.name) > MAX_NAME:
        raise SchemaError(
            f"the {kind} {value.name!r} of {name} has no declared rank up to {MAX_RANK}, "
            f"or a name of more than {MAX_NAME} letters",
            "Export the model with the rank of every input and output.",
        )
    shape = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
    return Tensor(name=value.name, datatype=DATATYPES[tensor.elem_type], shape=shape)
