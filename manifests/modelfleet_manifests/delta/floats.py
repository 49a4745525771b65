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


_HALF_BITS: Final = ~0x7000_1FFF
_REBIAS: Final = (127 - 15) << 23
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
        if kind == 2:  # noqa: PLR2004 - float16
            predicted, after = _multiply_halves(old, factors)
        else:
            predicted = _multiply(old, factors, kind)
            after = exponents(predicted, kind)
    top = FORMATS[kind].mask
    before = exponents(old, kind)
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
    bits = product.view(np.uint32)
    # round to the nearest, ties to even
    bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (bits >> np.uint32(16)).astype(np.uint16)


def _multiply_halves(old: Array, factors: Array) -> tuple[Array, Array]:
    """Multiply float16 with whole numbers where numpy's conversions are slow.

    Only numbers with an exponent from 2 to 30 before and after come out right, and only
    those are used.
    """
    wide = old.view(np.int16).astype(np.int32)
    wide <<= 13
    wide &= _HALF_BITS  # the sign was copied into the exponent
    wide += _REBIAS
    bits = (wide.view(np.float32) * factors).view(np.int32)
    sign = bits >> 16
    sign &= 0x8000
    bits &= 0x7FFFFFFF
    # round to the nearest, ties to even
    odd = bits >> 13
    odd &= 1
    bits += odd
    bits += 0xFFF
    bits -= _REBIAS
    bits >>= 13
    after = (bits >> 10).clip(0, 31).astype(np.int16)
    bits |= sign
    return bits.astype(np.uint16), after
