"""A signed residual as one of 63 symbols and a field of raw bits.

The context says how many low bits are noise (`shift`) and go raw. What is above them, q, is
coded: exactly up to 16 either side of zero, in four bins per octave beyond, and beyond 224
as ESCAPE with the whole word raw.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SIDE: Final = 31
"""Bins on each side of zero; symbol 31 + n is bin n of the negative side."""
ESCAPE: Final = 2 * SIDE
ALPHABET: Final = 64
_DIRECT: Final = 16


def _lay_bins() -> tuple[Array, Array]:
    bases, extra = list(range(_DIRECT)), [0] * _DIRECT
    for number in range(SIDE - _DIRECT):
        bases.append((4 + number % 4) << (2 + number // 4))
        extra.append(2 + number // 4)
    return np.array(bases, np.int32), np.array(extra, np.uint8)


_BASES, _EXTRA = _lay_bins()
_LIMIT: Final = int(_BASES[-1]) + (1 << int(_EXTRA[-1]))
_BIN_OF: Final = np.append(
    (np.searchsorted(_BASES, np.arange(_LIMIT), "right") - 1), ESCAPE
).astype(np.uint8)
_EXTRA_OF: Final = np.concatenate([_EXTRA, _EXTRA, [0, 0]]).astype(np.uint8)
_Q_OF: Final = np.concatenate([_BASES, ~_BASES, [0, 0]]).astype(np.int32)
_MASKS: Final = ((1 << np.arange(33)) - 1).astype(np.uint32)


def bin_sizes() -> Array:
    """Return how many values of q each of the 31 bins of a side holds."""
    return np.int64(1) << _EXTRA.astype(np.int64)


class Split(NamedTuple):
    """Residuals taken apart: symbols (uint8), raw fields (uint32), their widths (uint8)."""

    symbols: Array
    fields: Array
    widths: Array


def split(left: Array, shift: Array, bits: int) -> Split:
    """Take residuals apart.

    Args:
        left: Residuals, signed, int32.
        shift: Raw low bits per element, uint8.
        bits: Of a whole word.
    """
    q = left >> shift
    sign = q >> 31
    q ^= sign
    far = np.flatnonzero(q >= _DIRECT)
    symbols = q.astype(np.uint8)
    fields = left.view(np.uint32) & _MASKS.take(shift)
    widths = shift.copy()
    if far.size:
        sizes = np.minimum(q.take(far), _LIMIT)
        bins = _BIN_OF.take(sizes)
        symbols[far] = bins
        widths[far] += _EXTRA_OF.take(bins)
        over = (sizes - _BASES.take(bins, mode="clip")).astype(np.uint32)
        fields[far] |= over << shift.take(far)
    symbols -= sign.astype(np.uint8) * np.uint8(SIDE)
    lost = far[q.take(far) >= _LIMIT]
    symbols[lost] = ESCAPE
    escape(lost, left, fields, widths, bits)
    return Split(symbols, fields, widths)


def escape(lost: Array, left: Array, fields: Array, widths: Array, bits: int) -> None:
    """Make the fields of these elements hold the whole residual."""
    fields[lost] = left[lost].view(np.uint32) & _MASKS[bits]
    widths[lost] = bits


def widths_of(symbols: Array, shift: Array, bits: int) -> Array:
    """Return the width of each element's field in bits, uint8."""
    widths: Array = _EXTRA_OF.take(symbols)
    widths += shift
    if symbols.max(initial=0) >= ESCAPE:
        widths[symbols >= ESCAPE] = bits
    return widths


def join(symbols: Array, fields: Array | None, shift: Array) -> Array:
    """Return the residuals, modulo 2^32 as int32; undoes `split`.

    Args:
        symbols: uint8.
        fields: uint32; None if all widths are 0.
        shift: uint8.
    """
    left: Array = _Q_OF.take(symbols)
    if fields is None:
        return left
    if shift.any():
        left <<= shift
    left += fields.view(np.int32)
    # the mirror of base + e is ~base - e, but + e was added
    odd = (symbols >= SIDE + _DIRECT).nonzero()[0]
    if odd.size:
        some = shift.take(odd)
        field = fields.take(odd).view(np.int32)
        left[odd] -= field >> some << some + np.uint8(1)
        lost = odd[symbols.take(odd) >= ESCAPE]
        left[lost] = fields[lost].view(np.int32)
    return left
