"""Blocks of text: zstd with a window of the old text as dictionary.

"Text" is whatever is not tensor: the skeleton of a model, or all of a file that is none.
The old text is the old file without the ranges that ops read, joined.
"""

from collections.abc import Callable, Sequence
from typing import Final

from .packing import pack, unpack
from .varints import read_varint, write_varint

MAX_WINDOW: Final = 2 << 20
"""Bytes of old text that one block may refer to."""

RAW, ZSTD = 0, 1

ReadOld = Callable[[int, int], bytes | memoryview]


class OldText:
    """The old text, read on demand."""

    def __init__(self, read_old: ReadOld, gaps: Sequence[tuple[int, int]]) -> None:
        """Take the ranges of the old file that are text, in order."""
        self._read = read_old
        self._gaps = gaps
        self.size = sum(length for _, length in gaps)

    def window(self, start: int, length: int) -> bytes:
        """Return old text from `start`; less than `length` bytes at its end only."""
        parts: list[bytes | memoryview] = []
        for offset, size in self._gaps:
            if start >= size:
                start -= size
                continue
            if not length:
                break
            part = min(length, size - start)
            parts.append(self._read(offset + start, part))
            start, length = 0, length - part
        return b"".join(parts)


def encode_text(data: bytes, old: OldText, start: int, *, level: int) -> bytes:
    """Return the payload of a block whose window begins at `start` of the old text."""
    base = old.window(start, MAX_WINDOW)
    frame = pack(data, level=level, base=base)
    if len(frame) >= len(data):
        return bytes([RAW]) + data
    return bytes([ZSTD]) + write_varint(start) + write_varint(len(base)) + frame


def decode_text(payload: bytes, size: int, old: OldText) -> bytes:
    """Return the `size` bytes of a block.

    Raises:
        ValueError: The payload is not one this reader can decode.
    """
    if payload[:1] == bytes([RAW]) and len(payload) == size + 1:
        return payload[1:]
    if payload[:1] != bytes([ZSTD]):
        raise ValueError("unknown coder of text")
    start, at = read_varint(payload, 1)
    length, at = read_varint(payload, at)
    if length > MAX_WINDOW or start + length > old.size:
        raise ValueError("window outside the old text")
    return unpack(memoryview(payload)[at:], size, base=old.window(start, length))
