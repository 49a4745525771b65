"""Tensors of the Open Inference Protocol V2, as JSON and as bytes. Child processes only."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype("O"),
}
_OF_ONNX = {
    "bool": "BOOL",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
} | {
    f"{sign}int{bits}": f"{sign}int{bits}".upper()
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
_PREFIX = struct.Struct("<I")


class TensorError(Exception):
    """A tensor in a request does not fit the model; the text names it."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model; -1 stands for a length that may vary."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def fits(self, shape: Sequence[int]) -> bool:
        """Say whether a tensor of `shape` may be fed here."""
        return len(shape) == len(self.shape) and all(
            have >= 0 and want in (-1, have)
            for have, want in zip(shape, self.shape, strict=True)
        )


def spec_of(node: Any) -> TensorSpec:  # noqa: ANN401 - onnxruntime has no types
    """Return the spec of an `onnxruntime.NodeArg`; `UNKNOWN` for what is no tensor."""
    element = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(d if isinstance(d, int) and d >= 0 else -1 for d in node.shape)
    return TensorSpec(node.name, _OF_ONNX.get(element, "UNKNOWN"), shape)


class InTensor(msgspec.Struct):
    """An input as it arrives: `data`, or as many of the trailing bytes as it says."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = msgspec.UNSET


class OutTensor(msgspec.Struct, omit_defaults=True):
    """An output as it leaves."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, int] = {}
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET


def decode_inputs(
    tensors: Sequence[InTensor], tail: memoryview, specs: Sequence[TensorSpec]
) -> dict[str, Array]:
    """Return what the model is fed.

    Args:
        tensors: From the JSON part of the request.
        tail: The bytes behind it, used up in the order of `tensors`.
        specs: The model's inputs, all required.

    Raises:
        TensorError: Missing, unknown, twice, or of another datatype, shape or length.
    """
    wanted = {spec.name: spec for spec in specs}
    feeds: dict[str, Array] = {}
    for tensor in tensors:
        spec = wanted.get(tensor.name)
        if spec is None or tensor.name in feeds:
            raise TensorError(
                f"input {tensor.name!r} is not one of {sorted(wanted)}, once each"
            )
        _check(tensor, spec)
        size = tensor.parameters.get("binary_data_size")
        if size is None:
            feeds[tensor.name] = _from_json(tensor)
            continue
        if not isinstance(size, int) or not 0 <= size <= len(tail):
            raise TensorError(
                f"input {tensor.name!r}: binary_data_size {size!r} is not there"
            )
        feeds[tensor.name] = _from_bytes(tensor, tail[:size])
        tail = tail[size:]
    if missing := wanted.keys() - feeds.keys():
        raise TensorError(f"inputs {sorted(missing)} are missing")
    if tail:
        raise TensorError(f"{len(tail)} bytes are left behind the last binary input")
    return feeds


def _check(tensor: InTensor, spec: TensorSpec) -> None:
    if tensor.datatype != spec.datatype or tensor.datatype not in DATATYPES:
        raise TensorError(
            f"input {tensor.name!r} has datatype {tensor.datatype!r}; "
            f"the model takes {spec.datatype}"
        )
    if not spec.fits(tensor.shape):
        raise TensorError(
            f"input {tensor.name!r} has shape {tensor.shape}; "
            f"the model takes {list(spec.shape)}"
        )


def _from_bytes(tensor: InTensor, data: memoryview) -> Array:
    if tensor.datatype == "BYTES":
        return _strings(tensor, data)
    dtype = DATATYPES[tensor.datatype]
    want = prod(tensor.shape) * dtype.itemsize
    if len(data) != want:
        raise TensorError(
            f"input {tensor.name!r} has {len(data)} bytes; its shape needs {want}"
        )
    array = np.frombuffer(data, dtype).reshape(tensor.shape)
    return np.require(array, requirements=["C", "A"])  # copies where it lies unaligned


def _strings(tensor: InTensor, data: memoryview) -> Array:
    items, at = [], 0
    try:
        while at < len(data):
            (length,) = _PREFIX.unpack_from(data, at)
            at += _PREFIX.size
            if at + length > len(data):
                raise TensorError(f"input {tensor.name!r}: a string ends behind its bytes")
            items.append(str(data[at : at + length], "utf-8"))
            at += length
    except (struct.error, UnicodeDecodeError) as error:
        raise TensorError(f"input {tensor.name!r}: {error}") from error
    if len(items) != prod(tensor.shape):
        raise TensorError(
            f"input {tensor.name!r} has {len(items)} strings for {tensor.shape}"
        )
    return np.array(items, dtype=object).reshape(tensor.shape)


def _from_json(tensor: InTensor) -> Array:
    if tensor.data is msgspec.UNSET:
        raise TensorError(f"input {tensor.name!r} has neither data nor binary_data_size")
    dtype = DATATYPES[tensor.datatype]
    try:
        array = np.asarray(tensor.data, dtype=object if dtype.kind == "O" else None)
        if dtype == np.uint64 and array.dtype.kind == "f":
            array = _large(tensor.data)
        if not array.size:
            array = array.astype(dtype)
        _check_values(array, dtype)
        with np.errstate(over="ignore"):
            return array.astype(dtype).reshape(tensor.shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise TensorError(f"input {tensor.name!r}: {error}") from error


def _large(data: Any) -> Array:  # noqa: ANN401 - what JSON held
    """Return whole numbers beyond 2^63, which numpy takes for floats where others are."""
    array = np.asarray(data, dtype=object)
    if not all(type(item) is int for item in array.flat):
        raise ValueError("data of kind float64 where uint64 is wanted")
    return array.astype(np.uint64)  # OverflowError where one does not fit


def _check_values(array: Array, dtype: np.dtype[Any]) -> None:
    takes = {"b": "b", "i": "iu", "u": "iu", "f": "iuf", "O": "O"}[dtype.kind]
    if array.dtype.kind not in takes:
        raise ValueError(f"data of kind {array.dtype} where {dtype} is wanted")
    if dtype.kind == "O" and not all(isinstance(item, str) for item in array.flat):
        raise ValueError("BYTES in JSON are strings")
    if dtype.kind in "iu" and array.size:
        bounds = np.iinfo(dtype)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise ValueError(f"a value is outside of {dtype}")


def encode_output(
    spec: TensorSpec, array: Array, *, binary: bool
) -> tuple[OutTensor, bytes]:
    """Return an output and the bytes that follow the JSON (none for a JSON tensor).

    A NaN or infinity becomes `null` in JSON; ask for bytes to see which.
    """
    out = OutTensor(name=spec.name, datatype=spec.datatype, shape=list(array.shape))
    if not binary:
        out.data = array.ravel().tolist()
        return out, b""
    if spec.datatype == "BYTES":
        items = [str(item).encode() for item in array.flat]
        data = b"".join(_PREFIX.pack(len(item)) + item for item in items)
    else:
        data = array.astype(DATATYPES[spec.datatype], copy=False).tobytes()
    out.parameters = {"binary_data_size": len(data)}
    return out, data
