"""The protobuf wire format: fields as byte ranges, nothing decoded that is not asked for.

The device does not install `onnx` or `protobuf`; this scanner is all it needs of them.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_FIXED_SIZES: Final = {FIXED64: 8, FIXED32: 4}
_ONE_BYTE: Final = 0x7F
"""The largest varint of one byte: nearly all tags are."""
_MAX_VARINT_BITS: Final = 70  # ten groups of seven, as protobuf writes a negative int64


class WireError(ValueError):
    """These bytes are not well-formed protobuf."""


class Field(NamedTuple):
    """One field: its payload is `data[start:end]`; a varint also has its `value`."""

    number: int
    kind: int
    start: int
    end: int
    value: int


def read_varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Return (value, position after it).

    Raises:
        WireError: The varint runs past `end` or past ten bytes.
    """
    value = shift = 0
    while at < end and shift < _MAX_VARINT_BITS:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, at
        shift += 7
    raise WireError(f"bad varint before byte {at}")


def scan_fields(data: memoryview, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message `data[start:end]`, in order.

    Raises:
        WireError: The bytes are not a protobuf message, found as far as it is read.
    """
    at = start
    while at < end:
        tag, at = data[at], at + 1
        if tag > _ONE_BYTE:
            tag, at = read_varint(data, at - 1, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"field number 0 before byte {at}")
        body, value = at, 0
        if kind == VARINT:
            value, at = read_varint(data, at, end)
        elif kind == BYTES:
            length, body = read_varint(data, at, end)
            at = body + length
        elif kind in _FIXED_SIZES:
            at += _FIXED_SIZES[kind]
        else:
            raise WireError(f"wire type {kind} before byte {at}")
        if at > end:
            raise WireError(f"field {number} ends at byte {at}, after its message")
        yield Field(number, kind, body, at, value)
