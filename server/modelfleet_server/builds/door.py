"""Static checks of an ONNX file, before anything loads it. Nothing is executed.

`check` reads the one file as a protocol buffer, never follows what is named in it before
that is judged, and returns the facts. It still belongs into a limited child: parsing is
work that a file can make endless.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, NodeProto, TensorProto, helper

from modelfleet_server.builds import graph
from modelfleet_server.builds.errors import (
    ModelSizeError,
    NotOnnxError,
    OperatorError,
    OpsetError,
)
from modelfleet_server.builds.external import check_external, external_parts
from modelfleet_server.builds.messages import ModelFacts
from modelfleet_server.builds.schema import read_schema

MAX_FILE = (2 << 30) - 1
"""Bytes of one ONNX file: a protocol buffer cannot be larger."""
MAX_IR = onnx.IR_VERSION
OPSETS = {
    "": range(7, onnx.defs.onnx_opset_version() + 1),
    "ai.onnx.ml": range(1, 6),
    "com.microsoft": range(1, 2),
}
"""Versions of each operator domain that ONNX Runtime promises to load."""


def check(path: Path) -> ModelFacts:
    """Return the facts of the model file at `path`.

    Raises:
        NotOnnxError: It is no ONNX file, or a damaged one.
        ExternalDataError: External data is missing, too short or out of bounds.
        OpsetError: An opset, file format or operator domain is not on the list.
        OperatorError: An operator is not known.
        ModelSizeError: It is too large, too deep or has too many nodes.
        SchemaError: Its inputs and outputs cannot be told to a device.
    """
    name = path.name
    length = _length(path)
    model = _parse(path)
    opset = _check_versions(model, name)
    external = check_external(model, path)
    nodes = graph.count_nodes(model)
    operators = _check_operators(model, name)
    parameters = _check_tensors(model, name)
    _check_whole(model, path, has_external=bool(external))
    return ModelFacts(
        schema=read_schema(model, name),
        opset=opset,
        ir=model.ir_version,
        nodes=nodes,
        parameters=parameters,
        operators=operators,
        length=length,
        external=external,
    )


def _length(path: Path) -> int:
    try:
        length = path.stat().st_size
    except OSError as error:
        raise NotOnnxError(
            f"{path.name} cannot be read: {error.strerror}", "Check the path."
        ) from None
    if not path.is_file():
        raise NotOnnxError(f"{path.name} is not a file", "Name the .onnx file itself.")
    if length > MAX_FILE:
        raise ModelSizeError(
            f"{path.name} has {length} bytes, at most {MAX_FILE} are allowed",
            "Prune or split the model.",
        )
    return length


def _parse(path: Path) -> ModelProto:
    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        model.Clear()
    # a protocol buffer reader makes something of many byte strings; ONNX says more
    if model.ir_version < 1 or not model.HasField("graph") or not model.graph.node:
        raise NotOnnxError(
            f"{path.name} is not an ONNX file, or it is damaged or cut off",
            "Export the model again (for example torch.onnx.export) and publish that file.",
        )
    return model


def _check_versions(model: ModelProto, name: str) -> int:
    if model.ir_version > MAX_IR:
        raise OpsetError(
            f"{name} has file format (IR) {model.ir_version}, at most {MAX_IR} is known",
            "Export it with an older onnx package.",
        )
    own = {graph.domain_of(function.domain) for function in model.functions}
    imports = {graph.domain_of(item.domain): item.version for item in model.opset_import}
    for domain, version in imports.items():
        shown = domain or "ai.onnx"
        if domain in OPSETS and version not in OPSETS[domain]:
            known = OPSETS[domain]
            raise OpsetError(
                f"{name} is made for opset {version} of {shown}; "
                f"{known.start} to {known.stop - 1} are known",
                "Export it with another opset; 17 suits most devices.",
            )
        if domain not in OPSETS and domain not in own:
            raise OpsetError(
                f"{name} needs operators of the domain {shown}, which no device has",
                f"Use only operators of {', '.join(key or 'ai.onnx' for key in OPSETS)}.",
            )
    if "" not in imports:
        raise OpsetError(f"{name} does not say which opset it is made for", "Export again.")
    return int(imports[""])


def _all_nodes(model: ModelProto) -> Iterator[NodeProto]:
    yield from graph.walk_nodes(model.graph.node)
    for function in model.functions:
        yield from graph.walk_nodes(function.node)


def _check_operators(model: ModelProto, name: str) -> list[str]:
    versions = {graph.domain_of(item.domain): item.version for item in model.opset_import}
    own = {(graph.domain_of(item.domain), item.name) for item in model.functions}
    used = {graph.op_key(node) for node in _all_nodes(model)}
    contributed = _contributed() if any(d == "com.microsoft" for d, _ in used) else set()
    for domain, operator in sorted(used - own):
        if domain not in versions:
            raise OpsetError(
                f"{name} uses {domain}:{operator} and does not import {domain}",
                "Export it again; a model names the opset of every domain that it uses.",
            )
        known = (
            operator in contributed
            if domain == "com.microsoft"
            else _is_defined(operator, versions[domain], domain)
        )
        if not known:
            raise OperatorError(
                f"{name} uses the operator {operator}, which opset {versions[domain]} "
                f"of {domain or 'ai.onnx'} does not have",
                "Replace it by standard operators, or export for an opset that has it.",
            )
    return sorted(f"{domain}:{op}" if domain else op for domain, op in used)


def _is_defined(operator: str, version: int, domain: str) -> bool:
    if not onnx.defs.has(operator, version, domain):
        return False
    return not onnx.defs.get_schema(operator, version, domain).deprecated


def _contributed() -> set[str]:
    # only few models need it, and importing it takes longer than the rest of the door
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime  # noqa: PLC0415

    schemas = runtime.get_all_operator_schema()
    return {schema.name for schema in schemas if schema.domain == "com.microsoft"}


def _check_tensors(model: ModelProto, name: str) -> int:
    """Return the number of parameters; what is declared must be what is there."""
    parameters = 0
    for tensor in graph.walk_tensors(model):
        size = prod(tensor.dims)
        if any(dim < 0 for dim in tensor.dims) or size > MAX_FILE:
            raise ModelSizeError(
                f"the tensor {tensor.name!r} of {name} declares the shape "
                f"{list(tensor.dims)}",
                "A single tensor has at most 2^31 - 1 values.",
            )
        parameters += size
        if tensor.data_type == TensorProto.STRING:
            continue
        if tensor.HasField("raw_data") and len(tensor.raw_data) != _bytes_of(tensor, size):
            raise NotOnnxError(
                f"the tensor {tensor.name!r} of {name} has {len(tensor.raw_data)} bytes "
                f"for the shape {list(tensor.dims)}",
                "The file is damaged: export the model again.",
            )
        for part in external_parts(tensor):
            part.check_length(_bytes_of(tensor, size), name)
    return parameters


def _bytes_of(tensor: TensorProto, size: int) -> int:
    if tensor.data_type in _NIBBLES:
        return (size + 1) // 2
    try:
        return size * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:
        raise NotOnnxError(
            f"the tensor {tensor.name!r} has the unknown type {tensor.data_type}",
            "Export the model again with a released onnx package.",
        ) from None


_NIBBLES = frozenset({TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1})


def _check_whole(model: ModelProto, path: Path, *, has_external: bool) -> None:
    """Let ONNX's own checker look for cycles, wrong types and shapes that cannot be."""
    try:
        # with external data it looks beside the file, so it needs the path
        onnx.checker.check_model(str(path) if has_external else model, full_check=True)
    except Exception as error:  # noqa: BLE001 - it also raises bare RuntimeError, ValueError
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise NotOnnxError(
            f"{path.name} is not a valid ONNX model: {first[:300]}",
            "Try onnx.checker.check_model(..., full_check=True) and export it again.",
        ) from None
