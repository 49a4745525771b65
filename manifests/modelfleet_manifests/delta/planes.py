"""Byte planes: the n-th bytes of all elements together, each plane zstd or as it is.

Level 1 on purpose: on noise it is Huffman alone, which beats the false matches that higher
levels find, and it is the fastest.
"""

from typing import Final

import numpy as np

from .packing import pack, unpack
from .varints import read_varint, write_varint
from .words import Words

LEVEL: Final = 1


def encode_planes(words: Words) -> bytes:
    """Return the planes of `words`, lowest byte first, each with its length."""
    columns = words.view(np.uint8).reshape(-1, words.itemsize)
    out: list[bytes] = []
    for number in range(words.itemsize):
        plane = columns[:, number].tobytes()
        frame = pack(plane, level=LEVEL)
        best = frame if len(frame) < len(plane) else plane
        out += [write_varint(len(best)), best]
    return b"".join(out)


def decode_planes(payload: memoryview, count: int, width: int) -> tuple[Words, int]:
    """Return (`count` words of `width` bytes, position after them).

    Raises:
        ValueError: The payload does not hold them.
    """
    words = np.empty(count, f"<u{width}")
    columns = words.view(np.uint8).reshape(count, width)
    at = 0
    for number in range(width):
        length, at = read_varint(payload, at)
        plane = payload[at : at + length]
        at += length
        if at > len(payload):
            raise ValueError("plane longer than its block")
        raw = plane if length == count else unpack(plane, count)
        columns[:, number] = np.frombuffer(raw, np.uint8)
    return words, at
