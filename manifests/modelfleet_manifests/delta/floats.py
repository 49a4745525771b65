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


_REBIAS: Final = np.uint32((127 - 15) << 23)
WIDTHS: Final = {1: 4, 2: 2, 3: 2}
"""Bytes, by the key of `FORMATS`."""
FORMATS: Final = {1: Format(23, 127, 255), 2: Format(10, 15, 31), 3: Format(7, 127, 255)}


def exponents(words: Array, kind: int) -> Array:
    """Return the biased exponents, int16."""
    layout = FORMATS[kind]
    moved: Array = words >> words.dtype.type(layout.mantissa)
    moved &= words.dtype.type(layout.mask)
    return moved.astype(np.int16)


def scale(old: Array, factors: Array, kind: int) -> tuple[Array, Array]:
    """Return (predicted words, their magnitudes: the same without the sign).

    Args:
        old: Words, `<u4` or `<u2`.
        factors: float32, finite and above 0, one per element.
        kind: Key of `FORMATS`.
    """
    layout = FORMATS[kind]
    word = old.dtype.type
    magnitude = old & word((1 << layout.mantissa) * (layout.mask + 1) - 1)
    with np.errstate(all="ignore"):
        after = _MULTIPLY[kind](magnitude, factors)
    first, end = word(1 << layout.mantissa), word(layout.mask << layout.mantissa)
    least = word(2 << layout.mantissa)
    if (
        magnitude.min() < first
        or magnitude.max() >= end
        or after.min() < least
        or after.max() >= end
    ):
        odd = magnitude - first >= end - first
        odd |= after - least >= end - least
        np.copyto(after, magnitude, where=odd)
    sign = np.bitwise_xor(old, magnitude, out=magnitude)
    sign |= after
    return sign, after


def to_float32(words: Array, kind: int) -> Array:
    """Return the numbers as float32."""
    if kind == 1:
        return words.view(np.float32)
    if kind == 2:  # noqa: PLR2004 - float16
        return words.view(np.float16).astype(np.float32)
    return (words.astype(np.uint32) << np.uint32(16)).view(np.float32)


def is_finite(words: Array, kind: int) -> bool:
    """Return whether all of the numbers are."""
    return bool(exponents(words, kind).max(initial=0) < FORMATS[kind].mask)


def cast(words: Array, old_kind: int, new_kind: int) -> Array:
    """Return the numbers in another format, to the nearest, ties to even."""
    values = to_float32(words, old_kind)
    if new_kind == 1:
        return values.view(np.uint32)
    if new_kind == 2:  # noqa: PLR2004 - float16
        with np.errstate(all="ignore"):
            return values.astype(np.float16).view(np.uint16)
    bits = values.view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)


def _multiply_singles(magnitude: Array, factors: Array) -> Array:
    return (magnitude.view(np.float32) * factors).view(np.uint32)


def _multiply_halves(magnitude: Array, factors: Array) -> Array:
    """Multiply float16 with whole numbers where numpy's conversions are slow.

    Only numbers with an exponent from 1 to 30 before and 2 to 30 after come out right; of
    the others none comes out with an exponent from 2 to 30.
    """
    wide = magnitude.astype(np.uint32)
    wide <<= np.uint32(13)
    wide += _REBIAS
    product = wide.view(np.float32)
    product *= factors
    # to the nearest, ties away from zero
    wide += np.uint32(1 << 12) - _REBIAS
    wide >>= np.uint32(13)
    return wide.astype(np.uint16)


def _multiply_brains(magnitude: Array, factors: Array) -> Array:
    wide = magnitude.astype(np.uint32)
    wide <<= np.uint32(16)
    product = wide.view(np.float32)
    product *= factors
    # to the nearest, ties away from zero
    wide += np.uint32(1 << 15)
    wide >>= np.uint32(16)
    return wide.astype(np.uint16)


_MULTIPLY: Final = {1: _multiply_singles, 2: _multiply_halves, 3: _multiply_brains}
