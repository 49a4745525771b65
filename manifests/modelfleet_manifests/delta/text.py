"""Blocks of text: zstd with windows of the old text as dictionary.

"Text" is whatever is not tensor: the skeleton of a model, or all of a file that is none.
The old text is the old file without the ranges that ops read, joined.
"""

from collections.abc import Callable, Sequence
from typing import Final

from .packing import pack, unpack
from .varints import read_varint, write_varint

MAX_WINDOW: Final = 2 << 20
"""Bytes of old text that one block may refer to."""
MAX_WINDOWS: Final = 4

RAW, ZSTD = 0, 1

ReadOld = Callable[[int, int], bytes | memoryview]


class Text:
    """The text of a file, read on demand."""

    def __init__(self, read_old: ReadOld, gaps: Sequence[tuple[int, int]]) -> None:
        """Take the ranges of the file that are text, in order."""
        self._read = read_old
        self._gaps = gaps
        self.size = sum(length for _, length in gaps)

    def window(self, start: int, length: int) -> bytes:
        """Return text from `start`; less than `length` bytes at its end only."""
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


def encode_text(data: bytes, old: Text, starts: Sequence[int], *, level: int) -> bytes:
    """Return the payload of a block.

    Args:
        data: The text.
        old: The old text.
        starts: Where windows of the old text begin, 1 to `MAX_WINDOWS`.
        level: Of zstd.
    """
    size = min(MAX_WINDOW // len(starts), old.size)
    places = [(max(0, min(start, old.size - size)), size) for start in starts]
    base = b"".join(old.window(*place) for place in places)
    frame = pack(data, level=level, base=base)
    if len(frame) >= len(data):
        return bytes([RAW]) + data
    numbers = [len(places), *(number for place in places for number in place)]
    return bytes([ZSTD]) + b"".join(map(write_varint, numbers)) + frame


def decode_text(payload: bytes, size: int, old: Text) -> bytes:
    """Return the `size` bytes of a block.

    Raises:
        ValueError: The payload is not one this reader can decode.
    """
    if payload[:1] == bytes([RAW]) and len(payload) == size + 1:
        return payload[1:]
    if payload[:1] != bytes([ZSTD]):
        raise ValueError("unknown coder of text")
    count, at = read_varint(payload, 1)
    if not 1 <= count <= MAX_WINDOWS:
        raise ValueError(f"{count} windows")
    places: list[tuple[int, int]] = []
    for _ in range(count):
        start, at = read_varint(payload, at)
        length, at = read_varint(payload, at)
        if start + length > old.size:
            raise ValueError("window outside the old text")
        places.append((start, length))
    if sum(length for _, length in places) > MAX_WINDOW:
        raise ValueError("windows too large")
    base = b"".join(old.window(*place) for place in places)
    return unpack(memoryview(payload)[at:], size, base=base)
