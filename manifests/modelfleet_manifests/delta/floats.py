"""Predictions for floats that are the same bit for bit on every CPU.

One IEEE multiplication in float32, rounded once to the format. Where the old or the
predicted number is zero, denormal, infinite or NaN, the prediction is the old number
itself: flush-to-zero modes and NaN payloads then make no difference.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Format(NamedTuple):
    """A binary float: bits of the mantissa, bias and mask of the exponent."""

    mantissa: int
    bias: int
    mask: int


FORMATS: Final = {1: Format(23, 127, 255), 2: Format(10, 15, 31), 3: Format(7, 127, 255)}


def exponents(words: Array, kind: int) -> Array:
    """Return the biased exponents, int16."""
    layout = FORMATS[kind]
    moved: Array = words >> words.dtype.type(layout.mantissa)
    moved &= words.dtype.type(layout.mask)
    return moved.astype(np.int16)


def scale(old: Array, factors: Array, kind: int) -> tuple[Array, Array]:
    """Return (predicted words, their biased exponents as int16).

    Args:
        old: Words, `<u4` or `<u2`.
        factors: float32, finite, one per element.
        kind: Key of `FORMATS`.
    """
    with np.errstate(all="ignore"):
        predicted = _multiply(old, factors, kind)
    top = FORMATS[kind].mask
    before, after = exponents(old, kind), exponents(predicted, kind)
    if before.min() < 1 or before.max() >= top or after.min() <= 1 or after.max() >= top:
        odd = (before < 1) | (before >= top) | (after <= 1) | (after >= top)
        np.copyto(predicted, old, where=odd)
        np.copyto(after, before, where=odd)
    return predicted, after


def to_float32(words: Array, kind: int) -> Array:
    """Return the numbers as float32."""
    if kind == 1:
        return words.view(np.float32)
    if kind == 2:  # noqa: PLR2004 - float16
        return words.view(np.float16).astype(np.float32)
    return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _multiply(old: Array, factors: Array, kind: int) -> Array:
    product = to_float32(old, kind) * factors
    if kind == 1:
        return product.view(np.uint32)
    if kind == 2:  # noqa: PLR2004 - float16
        return product.astype(np.float16).view(np.uint16)
    bits = product.view(np.uint32)
    # round to the nearest, ties to even
    bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits >> np.uint32(16)).astype(np.uint16)
