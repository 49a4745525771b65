"""From elements and their prediction to small whole numbers, and back.

Elements are unsigned words of their width. All arithmetic is modulo 2^bits, so nothing is
lost whatever the bits mean: NaN, infinities and denormals are numbers like any other.
"""

import numpy as np

from .container import Method
from .words import Words


def subtract(new: Words, old: Words | None, method: Method) -> Words:
    """Return what is left of `new` when `old` is known, small numbers first."""
    if method is Method.XOR and old is not None:
        return new ^ old
    if method is Method.FRESH or old is None:
        return _rotate_left(new)
    return _fold(new - old)


def restore(left: Words, old: Words | None, method: Method) -> Words:
    """Undo `subtract`."""
    if method is Method.XOR and old is not None:
        return left ^ old
    if method is Method.FRESH or old is None:
        return _rotate_right(left)
    return _unfold(left) + old


def _bits(words: Words) -> int:
    return words.itemsize * 8


def _fold(words: Words) -> Words:
    """Fold the sign into the lowest bit: 0, -1, 1, -2 become 0, 1, 2, 3."""
    top: Words = words >> words.dtype.type(_bits(words) - 1)
    folded: Words = (words << words.dtype.type(1)) ^ (np.zeros_like(words) - top)
    return folded


def _unfold(words: Words) -> Words:
    folded: Words = (words >> words.dtype.type(1)) ^ (
        np.zeros_like(words) - (words & words.dtype.type(1))
    )
    return folded


def _rotate_left(words: Words) -> Words:
    """Move the sign of a float to its lowest bit, so that the exponent fills one byte."""
    folded: Words = (words << words.dtype.type(1)) | (
        words >> words.dtype.type(_bits(words) - 1)
    )
    return folded


def _rotate_right(words: Words) -> Words:
    folded: Words = (words >> words.dtype.type(1)) | (
        words << words.dtype.type(_bits(words) - 1)
    )
    return folded
