"""Where the tensors of a serialized ONNX model lie, as byte ranges of the file.

Found are initializers, tensors in attributes (Constant), in subgraphs (If, Loop, Scan), in
functions, in sparse and training tensors: every place where `onnx.proto` lets one stand.
"""

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from math import prod
from types import MappingProxyType
from typing import Final, NamedTuple

from .wire import BYTES, VARINT, Field, WireError, read_varint, scan_fields

MAX_DEPTH: Final = 48
"""Messages inside messages; deeper files get a general delta."""

MIN_TENSOR_BYTES: Final = 32
"""Shorter tensors stay part of the text around them: an entry of the table costs more."""


class Kind(IntEnum):
    """What the elements are, as far as the codec cares."""

    OPAQUE = 0
    FLOAT = 1
    SIGNED = 2
    UNSIGNED = 3


class Element(NamedTuple):
    """One ONNX element type: size in bytes, and kind."""

    width: int
    kind: Kind


ELEMENTS: Final[Mapping[int, Element]] = MappingProxyType(
    {
        1: Element(4, Kind.FLOAT),
        2: Element(1, Kind.UNSIGNED),
        3: Element(1, Kind.SIGNED),
        4: Element(2, Kind.UNSIGNED),
        5: Element(2, Kind.SIGNED),
        6: Element(4, Kind.SIGNED),
        7: Element(8, Kind.SIGNED),
        10: Element(2, Kind.FLOAT),
        11: Element(8, Kind.FLOAT),
        12: Element(4, Kind.UNSIGNED),
        13: Element(8, Kind.UNSIGNED),
        14: Element(4, Kind.FLOAT),
        15: Element(8, Kind.FLOAT),
        16: Element(2, Kind.FLOAT),
    }
)
"""`TensorProto.DataType` to element; complex numbers are two floats, the rest are bytes."""

BFLOAT16: Final = 16
FORMAT_OF: Final[Mapping[int, int]] = MappingProxyType({1: 1, 10: 2, BFLOAT16: 3})
"""`TensorProto.DataType` to the kind of float, of those that are cast."""
_BYTE: Final = Element(1, Kind.OPAQUE)


class Tensor(NamedTuple):
    """One tensor: `file[offset:offset + length]` holds its elements, little-endian.

    Attributes:
        name: Its name, or the path of node and attribute that holds it.
        dtype: `TensorProto.DataType`.
        dims: Shape as declared; may disagree with `length` in a damaged file.
        offset: First byte in the file.
        length: Bytes.
    """

    name: str
    dtype: int
    dims: tuple[int, ...]
    offset: int
    length: int

    @property
    def element(self) -> Element:
        """Return the element type; bytes if length and shape do not fit it."""
        element = ELEMENTS.get(self.dtype, _BYTE)
        return _BYTE if self.length % element.width else element

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape as declared; one axis if it does not fit the length."""
        count = self.length // self.element.width
        fits = len(self.dims) > 1 and prod(self.dims) == count
        return self.dims if fits else (count,)


class SideTensor(NamedTuple):
    """A tensor in an external file: `tensor.offset` counts in the file at `location`."""

    location: str
    tensor: Tensor


class TensorMap(NamedTuple):
    """Tensors of one model, in file order, and those of its side files."""

    tensors: tuple[Tensor, ...]
    side_tensors: tuple[SideTensor, ...]


def scan_side_files(model: memoryview) -> dict[str, tuple[Tensor, ...]]:
    """Return the tensors of each external file that a model names, by its `location`.

    Raises:
        WireError: Not a model, or a damaged one.
    """
    found: dict[str, list[Tensor]] = {}
    for location, tensor in scan_model(model).side_tensors:
        found.setdefault(location, []).append(tensor)
    return {location: tuple(tensors) for location, tensors in found.items()}


def scan_names(model: memoryview) -> dict[int, str]:
    """Return the names of a model's tensors by where they start; none of no model."""
    try:
        return {tensor.offset: tensor.name for tensor in scan_model(model).tensors}
    except WireError:
        return {}


def fit_tensors(tensors: Iterable[Tensor], size: int) -> tuple[Tensor, ...]:
    """Return the tensors inside a file of `size` bytes, in order, none on another."""
    fitting: list[Tensor] = []
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
        if tensor.offset >= end and tensor.offset + tensor.length <= size:
            fitting.append(tensor)
            end = tensor.offset + tensor.length
    return tuple(fitting)


# message -> field number -> message inside; "tensor" is TensorProto
_MESSAGES: Final[Mapping[str, Mapping[int, str]]] = MappingProxyType(
    {
        "model": {7: "graph", 20: "training", 25: "function"},
        "training": {1: "graph", 2: "graph"},
        "function": {7: "node", 11: "attribute"},
        "graph": {1: "node", 5: "tensor", 15: "sparse"},
        "node": {5: "attribute"},
        "attribute": {
            5: "tensor",
            6: "graph",
            10: "tensor",
            11: "graph",
            22: "sparse",
            23: "sparse",
        },
        "sparse": {1: "tensor", 2: "tensor"},
    }
)
_NAME_FIELDS: Final = MappingProxyType({"node": 3, "attribute": 1, "tensor": 8})
_DIMS, _DTYPE, _FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA, _EXTERNAL = 1, 2, 4, 9, 10, 13
_PACKED_WIDTHS: Final = MappingProxyType({_FLOAT_DATA: 4, _DOUBLE_DATA: 8})


def scan_model(data: memoryview) -> TensorMap:
    """Return the tensors of a serialized `ModelProto`.

    Args:
        data: The file, as bytes.

    Raises:
        WireError: Not a model, or a damaged one. No other error comes from bad bytes.
    """
    tops = list(scan_fields(data, 0, len(data)))
    if not any(field.number == 7 and field.kind == BYTES for field in tops):  # noqa: PLR2004
        raise WireError("no graph")
    tensors: list[Tensor] = []
    side: list[SideTensor] = []
    for found in _walk(data, "model", tops, "", 0):
        if isinstance(found, SideTensor):
            side.append(found)
        elif found.length >= MIN_TENSOR_BYTES:
            tensors.append(found)
    tensors.sort(key=lambda tensor: tensor.offset)
    return TensorMap(tuple(tensors), tuple(side))


def _walk(
    data: memoryview, message: str, fields: list[Field], path: str, depth: int
) -> Iterator[Tensor | SideTensor]:
    if depth > MAX_DEPTH:
        raise WireError(f"messages nested deeper than {MAX_DEPTH}")
    inside = _MESSAGES[message]
    name = _name_of(data, message, fields)
    here = f"{path}/{name}" if name else path
    for field in fields:
        below = inside.get(field.number)
        if below is None or field.kind != BYTES:
            continue
        parts = list(scan_fields(data, field.start, field.end))
        if below == "tensor":
            yield from _read_tensor(data, parts, here)
        else:
            yield from _walk(data, below, parts, here, depth + 1)


def _name_of(data: memoryview, message: str, fields: list[Field]) -> str:
    number = _NAME_FIELDS.get(message)
    for field in fields:
        if field.number == number and field.kind == BYTES:
            return _text(data, field)
    return ""


def _text(data: memoryview, field: Field) -> str:
    return bytes(data[field.start : field.end]).decode("utf-8", "replace")


def _read_tensor(
    data: memoryview, fields: list[Field], path: str
) -> Iterator[Tensor | SideTensor]:
    name, dtype, dims = (
        _name_of(data, "tensor", fields) or path,
        0,
        _read_dims(data, fields),
    )
    external: dict[str, str] = {}
    for field in fields:
        if field.number == _DTYPE and field.kind == VARINT:
            dtype = field.value
        elif field.number == _EXTERNAL and field.kind == BYTES:
            external.update(_read_entry(data, field))
    for field in fields:
        if field.kind != BYTES or field.number not in (_RAW_DATA, *_PACKED_WIDTHS):
            continue
        if (field.end - field.start) % _PACKED_WIDTHS.get(field.number, 1) == 0:
            yield Tensor(name, dtype, dims, field.start, field.end - field.start)
    if external:
        yield from _side_tensor(name, dtype, dims, external)


def _read_dims(data: memoryview, fields: list[Field]) -> tuple[int, ...]:
    dims: list[int] = []
    for field in fields:
        if field.number == _DIMS and field.kind == VARINT:
            dims.append(field.value)
        elif field.number == _DIMS and field.kind == BYTES:  # packed
            at = field.start
            while at < field.end:
                value, at = read_varint(data, at, field.end)
                dims.append(value)
    return tuple(dims)


def _read_entry(data: memoryview, entry: Field) -> dict[str, str]:
    parts = {
        field.number: _text(data, field)
        for field in scan_fields(data, entry.start, entry.end)
        if field.kind == BYTES
    }
    return {parts.get(1, ""): parts.get(2, "")}


def _side_tensor(
    name: str, dtype: int, dims: tuple[int, ...], external: Mapping[str, str]
) -> Iterator[SideTensor]:
    element = ELEMENTS.get(dtype, _BYTE)
    try:
        offset = int(external.get("offset", "0"))
        length = int(external.get("length", prod(dims) * element.width))
    except ValueError:
        return  # the side file then gets a general delta
    if offset >= 0 and length >= MIN_TENSOR_BYTES:
        yield SideTensor(
            external.get("location", ""), Tensor(name, dtype, dims, offset, length)
        )
