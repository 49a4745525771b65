"""The frame of a patch: header, op table, blocks. `docs/protocol.md` is its text.

The frame knows nothing of methods: a method adds a code to the table and coders to blocks.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from .errors import BrokenPatchError, UnknownPatchError
from .packing import pack, unpack
from .varints import fold_sign, read_varint, unfold_sign, write_varint

MAGIC: Final = b"\x89MFD\r\n\x1a\n"
VERSION: Final = 1
MAX_OPS: Final = 65_536
MAX_TABLE: Final = 4 << 20
"""Bytes of the unpacked op table."""
MAX_PARAMS: Final = 64
"""Bytes of one op's parameters."""
BLOCK_SLACK: Final = 4096
"""Bytes a block may be longer than what it decodes to, plus an eighth of that."""

_FIXED: Final = struct.Struct("<8sBBHQQ32s32sII")
_CHECK: Final = struct.Struct("<I")
_BLOCK: Final = struct.Struct("<II")
_MAX_SIZE: Final = (1 << 63) - 1


class Method(IntEnum):
    """What an op does; written into patches, so never renumber."""

    COPY = 0
    """The bytes of the old file."""
    HIDE = 1
    """Makes nothing: an old range that is not part of the old text."""
    FRESH = 2
    """Elements coded without an old tensor."""
    SUBTRACT = 3
    """Integer difference to the old elements, modulo their width."""
    XOR = 4
    """Bits that differ from the old elements."""
    SCALED = 5
    """Difference to the old elements times a factor per group, as symbols."""
    AFFINE = 6
    """Difference to old 8-bit elements whose scale and zero point moved, as symbols."""
    NOVEL = 7
    """Floats without an old tensor, as symbols."""
    CAST = 8
    """The floats of the old file in another format."""


SYMBOLS: Final = 0x10
"""Bit of a stream's number; the rest is the width of its elements."""
_FORMAT_WIDTHS: Final = {1: 4, 2: 2, 3: 2}
"""Bytes of float32, float16 and bfloat16."""
_SYMBOL_METHODS: Final = frozenset({Method.SCALED, Method.AFFINE, Method.NOVEL})


class Op(NamedTuple):
    """One row of the op table.

    Attributes:
        method: What to do.
        width: Bytes per element: 1, 2, 4 or 8.
        gap: Bytes of text in the new file before this op's bytes.
        length: Bytes this op makes, or hides; at least 1.
        base: Offset in the old file; 0 for FRESH.
        params: Of the method.
    """

    method: Method
    width: int
    gap: int
    length: int
    base: int
    params: bytes

    @property
    def made(self) -> int:
        """Return the bytes of the new file that this op makes."""
        return 0 if self.method is Method.HIDE else self.length

    @property
    def old_length(self) -> int:
        """Return the bytes of the old file that belong to this op, if it reads any.

        Raises:
            ValueError: Its parameters are impossible.
        """
        if self.method is not Method.CAST:
            return self.length
        if len(self.params) != 2 or _FORMAT_WIDTHS.get(self.params[1]) != self.width:  # noqa: PLR2004
            raise ValueError("formats of another width")
        if self.params[0] not in _FORMAT_WIDTHS:
            raise ValueError("unknown format")
        return self.length // self.width * _FORMAT_WIDTHS[self.params[0]]

    @property
    def reads_old(self) -> bool:
        """Return whether `old[base:base + old_length]` belongs to this op."""
        return self.method not in (Method.FRESH, Method.NOVEL)

    @property
    def is_coded(self) -> bool:
        """Return whether its elements come from blocks."""
        return self.method not in (Method.COPY, Method.HIDE, Method.CAST)

    @property
    def stream(self) -> int:
        """Return the stream of its elements: their width, and planes or symbols."""
        return self.width | (SYMBOLS if self.method in _SYMBOL_METHODS else 0)


class Header(NamedTuple):
    """Digests and sizes that a patch declares."""

    old_size: int
    new_size: int
    old_digest: bytes
    new_digest: bytes


class PatchSource:
    """Reads a patch from its start to its end and knows how far it came."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """Wrap `read(n)`, which returns up to n bytes, and none only at the end."""
        self._read = read
        self.offset = 0

    def take(self, length: int) -> bytes:
        """Return exactly `length` bytes; the caller has bounded it.

        Raises:
            BrokenPatchError: The patch ends before.
        """
        parts: list[bytes] = []
        missing = length
        while missing:
            part = self._read(missing)
            if not part:
                raise self.broken("truncated")
            parts.append(part)
            missing -= len(part)
            self.offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def finish(self) -> None:
        """Raise BrokenPatchError if anything follows the last block."""
        if self._read(1):
            raise self.broken("bytes after its end")

    def broken(self, why: str) -> BrokenPatchError:
        """Return the error for a fault at the present offset."""
        return BrokenPatchError(why, offset=self.offset)


def pack_head(header: Header, ops: Sequence[Op]) -> bytes:
    """Return everything before the first block."""
    table = _pack_table(ops)
    packed = pack(table, level=19)
    fixed = _FIXED.pack(MAGIC, VERSION, 0, 0, *header, len(packed), len(table))
    check = zlib.crc32(packed, zlib.crc32(fixed))
    return fixed + _CHECK.pack(check) + packed


def read_head(source: PatchSource, *, max_new_size: int | None) -> tuple[Header, list[Op]]:
    """Read everything before the first block.

    Args:
        source: At the start of a patch.
        max_new_size: Bytes the new file may have, None to believe the patch.

    Raises:
        BrokenPatchError: Not a patch, truncated, altered, or its table is impossible.
        UnknownPatchError: From a newer encoder.
    """
    fixed = source.take(_FIXED.size)
    magic, version, flags, reserved, *rest, packed_size, table_size = _FIXED.unpack(fixed)
    if magic != MAGIC:
        raise source.broken("not a modelfleet delta (wrong magic)")
    if version != VERSION or flags or reserved:
        raise UnknownPatchError("patch", f"format {version}.{flags} is newer than this")
    header = Header(*rest)
    limit = header.new_size if max_new_size is None else max_new_size
    if header.new_size > limit or max(header.old_size, header.new_size) > _MAX_SIZE:
        raise source.broken(f"it makes {header.new_size} bytes, allowed are {limit}")
    if table_size > MAX_TABLE or packed_size > table_size + BLOCK_SLACK:
        raise source.broken(f"op table of {table_size} bytes")
    (check,) = _CHECK.unpack(source.take(_CHECK.size))
    packed = source.take(packed_size)
    if zlib.crc32(packed, zlib.crc32(fixed)) != check:
        raise source.broken("head altered (checksum)")
    try:
        ops = _unpack_table(unpack(packed, table_size))
    except ValueError as error:
        raise source.broken(f"op table: {error}") from None
    _check_ops(source, header, ops)
    return header, ops


def pack_block(payload: bytes) -> bytes:
    """Return a block: length, checksum, payload."""
    return _BLOCK.pack(len(payload), zlib.crc32(payload)) + payload


def read_block(source: PatchSource, decoded: int) -> bytes:
    """Return the payload of the next block, which decodes to `decoded` bytes.

    Raises:
        BrokenPatchError: Truncated, altered, or longer than such a block can be.
    """
    length, check = _BLOCK.unpack(source.take(_BLOCK.size))
    if length > decoded + decoded // 8 + BLOCK_SLACK:
        raise source.broken(f"block of {length} bytes for {decoded}")
    payload = source.take(length)
    if zlib.crc32(payload) != check:
        raise source.broken("block altered (checksum)")
    return payload


def _pack_table(ops: Sequence[Op]) -> bytes:
    bases: list[int] = []
    end = 0
    for op in ops:
        step = op.base - end - op.gap if op.reads_old else 0
        bases.append(fold_sign(step))
        if op.reads_old:
            end = op.base + op.old_length
    columns: tuple[Iterable[int], ...] = (
        (op.method << 2 | op.width.bit_length() - 1 for op in ops),
        (op.gap for op in ops),
        (op.length for op in ops),
        bases,
        (len(op.params) for op in ops),
    )
    body = b"".join(write_varint(value) for column in columns for value in column)
    return write_varint(len(ops)) + body + b"".join(op.params for op in ops)


def _unpack_table(table: bytes) -> list[Op]:
    count, at = read_varint(table, 0)
    if count > MAX_OPS:
        raise ValueError(f"{count} ops, the most is {MAX_OPS}")
    columns: list[list[int]] = []
    for _ in range(5):
        column: list[int] = []
        for _ in range(count):
            value, at = read_varint(table, at)
            column.append(value)
        columns.append(column)
    ops: list[Op] = []
    end = 0
    for code, gap, length, step, size in zip(*columns, strict=True):
        if size > MAX_PARAMS or at + size > len(table):
            raise ValueError("parameters too long")
        op = Op(Method(code >> 2), 1 << (code & 3), gap, length, 0, table[at : at + size])
        at += size
        if op.reads_old:
            base = end + gap + unfold_sign(step)
            op = op._replace(base=base)
            end = base + op.old_length
        ops.append(op)
    if at != len(table):
        raise ValueError("bytes after the last row")
    return ops


def _check_ops(source: PatchSource, header: Header, ops: Sequence[Op]) -> None:
    made = 0
    for op in ops:
        made += op.gap + op.made
        if op.length < 1 or op.length % op.width:
            raise source.broken(f"op of {op.length} bytes with elements of {op.width}")
        if op.reads_old and not 0 <= op.base <= header.old_size - op.old_length:
            raise source.broken("op reads outside the old file")
        if made > header.new_size:
            raise source.broken("ops make more than the new file")
