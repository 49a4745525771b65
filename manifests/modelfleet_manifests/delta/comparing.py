"""Where two byte strings agree, by vectors: a memoryview compares byte by byte."""

from typing import Final

import numpy as np

_CHUNK: Final = 1 << 20


def same_bytes(left: memoryview, right: memoryview) -> bool:
    """Return whether both are the same."""
    return len(left) == len(right) and common_head(left, right) == len(left)


def common_head(left: memoryview, right: memoryview) -> int:
    """Return how many bytes both have in common at their start."""
    most = min(len(left), len(right))
    for at in range(0, most, _CHUNK):
        size = min(_CHUNK, most - at)
        differ = np.frombuffer(left, np.uint8, size, at) != np.frombuffer(
            right, np.uint8, size, at
        )
        if differ.any():
            return at + int(differ.argmax())
    return most


def common_tail(left: memoryview, right: memoryview) -> int:
    """Return how many bytes both have in common at their end."""
    most = min(len(left), len(right))
    for done in range(0, most, _CHUNK):
        size = min(_CHUNK, most - done)
        a = np.frombuffer(left, np.uint8, size, len(left) - done - size)
        b = np.frombuffer(right, np.uint8, size, len(right) - done - size)
        differ = a != b
        if differ.any():
            return done + int(differ[::-1].argmax())
    return most
