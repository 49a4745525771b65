"""The numbers per group that a block of symbols begins with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .planes import decode_planes, encode_planes
from .prediction import Side

Array = NDArray[Any]


def pack_sides(sides: Sequence[Side]) -> bytes:
    """Return the sides of some ops, in order."""
    codes = [np.empty(0, np.uint16), *(side.codes for side in sides)]
    factors = np.concatenate([np.empty(0, np.int32), *(side.factors for side in sides)])
    folded = (factors << 1) ^ (factors >> 31)
    return encode_planes(np.concatenate(codes)) + encode_planes(folded.view(np.uint32))


def unpack_sides(packed: memoryview, sizes: Sequence[int]) -> list[Side]:
    """Return the sides of ops with so many groups each.

    Raises:
        ValueError: The data does not hold them.
    """
    codes, at = decode_planes(packed, sum(sizes), 2)
    folded, _ = decode_planes(packed[at:], sum(sizes), 4)
    factors = (folded >> np.uint32(1)) ^ (np.uint32(0) - (folded & np.uint32(1)))
    found: list[Side] = []
    at = 0
    for size in sizes:
        part = slice(at, at + size)
        found.append(Side(codes[part], factors[part].view(np.int32)))
        at += size
    return found
