"""A signed residual as one of 63 symbols and a field of raw bits.

The context says how many low bits are noise (`shift`) and go raw. What is above them, q, is
coded: exactly up to 12 either side of zero, in ever wider bins up to 2^17, and beyond as
ESCAPE with the whole word raw. So a group may hold many small residuals and few that are
thousands of times as large, as where a part of a filter hardly learnt.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SIDE: Final = 31
"""Bins on each side of zero; symbol 31 + n is bin n of the negative side."""
ESCAPE: Final = 2 * SIDE
_ALPHABET_LOG: Final = 6
ALPHABET: Final = 1 << _ALPHABET_LOG
_DIRECT: Final = 12
_OCTAVES: Final = 6
"""From 2^6 on, a bin is an octave."""


def _lay_bins() -> tuple[Array, Array]:
    """Return (least values, log2 of the sizes) of the bins of a side."""
    bases, extra = list(range(_DIRECT)), [0] * _DIRECT
    for first, size in ((12, 2), (16, 4), (32, 16)):
        end = 1 << first.bit_length()
        bases += range(first, end, size)
        extra += [size.bit_length() - 1] * ((end - first) // size)
    for power in range(_OCTAVES, _OCTAVES + SIDE - len(bases)):
        bases.append(1 << power)
        extra.append(power)
    return np.array(bases, np.int32), np.array(extra, np.uint8)


_BASES, _EXTRA = _lay_bins()
FINE: Final = int((_BASES < 1 << _OCTAVES).sum())
"""Bins below this number are finer than octaves."""
_LIMIT: Final = 1 << _OCTAVES + SIDE - FINE
_BIN_OF: Final = (
    np.searchsorted(_BASES, np.arange((1 << _OCTAVES) + 1), "right") - 1
).astype(np.uint8)
_EXTRA_OF: Final = np.concatenate([_EXTRA, _EXTRA, [0, 0]]).astype(np.uint8)
_SIZES: Final = (1 << _EXTRA.astype(np.int32)) - 1
_LEAST_OF: Final = np.concatenate([_BASES, ~(_BASES + _SIZES), [0, 0]]).astype(np.int32)
"""The least q of each symbol."""
_MASKS: Final = ((1 << np.arange(33)) - 1).astype(np.uint32)


def bin_powers() -> Array:
    """Return how many values of q each of the 31 bins of a side holds, log2, int64."""
    return _EXTRA.astype(np.int64)


def bin_sizes() -> Array:
    """Return how many values of q each of the 31 bins of a side holds."""
    return np.int64(1) << bin_powers()


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
    if shift.any():
        q = left >> shift
        fields = left.view(np.uint32) & _MASKS.take(shift)
    else:  # as of 8-bit numbers: much quicker
        q = left.copy()
        fields = np.zeros(left.size, np.uint32)
    sign = q >> 31
    q ^= sign
    far = np.flatnonzero(q >= _DIRECT)
    symbols = q.astype(np.uint8)
    widths = shift.copy()
    if far.size:
        sizes = np.minimum(q.take(far), _LIMIT - 1)
        bins = _bins_of(sizes)
        symbols[far] = bins
        widths[far] += _EXTRA_OF.take(bins)
        over = sizes - _BASES.take(bins, mode="clip")
        # a field counts from the least q of its symbol, so on the negative side down
        over ^= sign.take(far) & _SIZES.take(bins, mode="clip")
        fields[far] |= over.astype(np.uint32) << shift.take(far)
    symbols -= sign.astype(np.uint8) * np.uint8(SIDE)
    lost = far[q.take(far) >= _LIMIT]
    symbols[lost] = ESCAPE
    escape(lost, left, fields, widths, bits)
    return Split(symbols, fields, widths)


def _bins_of(sizes: Array) -> Array:
    """Return the bins of sizes below `_LIMIT`."""
    bins: Array = _BIN_OF.take(sizes, mode="clip")
    wide = (sizes >= 1 << _OCTAVES).nonzero()[0]
    if wide.size:
        powers = sizes.take(wide).astype(np.float32).view(np.int32) >> 23
        bins[wide] = powers - (127 + _OCTAVES - FINE)
    return bins


def escape(lost: Array, left: Array, fields: Array, widths: Array, bits: int) -> None:
    """Make the fields of these elements hold the whole residual."""
    fields[lost] = left[lost].view(np.uint32) & _MASKS[bits]
    widths[lost] = bits


class Joints(NamedTuple):
    """What undoes `split`, per `context * ALPHABET + symbol`.

    Attributes:
        widths: Of the field, in bits; uint8.
        least: What is left when the field is 0, modulo 2^bits in words of that width.
    """

    widths: Array
    least: Array


def lay_joints(shifts: Array, width: int) -> Joints:
    """Return the residuals and fields of all symbols in all contexts.

    Args:
        shifts: Raw low bits per context, uint8.
        width: Bytes of a word.
    """
    widths = np.minimum(shifts[:, None] + _EXTRA_OF[None], width * 8).astype(np.uint8)
    widths[:, ESCAPE:] = width * 8
    least = _LEAST_OF[None].astype(np.int64) << shifts[:, None].astype(np.int64)
    return Joints(widths.ravel(), least.astype(f"<u{width}").ravel())


def join(contexts: Array, symbols: Array, joints: Joints) -> tuple[Array, Array]:
    """Return (least residuals modulo 2^bits, widths of the fields to add).

    Args:
        contexts: uint8.
        symbols: uint8.
        joints: Of the stream.
    """
    keys = contexts.astype(np.intp)
    keys <<= _ALPHABET_LOG
    keys |= symbols
    return joints.least.take(keys), joints.widths.take(keys)
