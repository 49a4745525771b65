"""What an element will probably be, and how sure that is.

Both sides compute this from the old file, the op and a few numbers per group. A code of
group says how large its residuals are: for floats, twice the log2 of their mean size over
the smallest step there is; 0 says that all of its elements are exactly as predicted.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import contexts as ctx
from . import floats
from .container import Method, Op
from .groups import Groups
from .words import Words

Array = NDArray[Any]

AFFINE_BITS: Final = 14
"""Factors of AFFINE are 1 + k / 2^14."""
MAX_AFFINE: Final = 1 << 19
SILENT: Final = 0
CODE_ROOM: Final = 2
"""Classes a float's code stands above, so that 0 stays free."""


class Side(NamedTuple):
    """Numbers per group: code of size (uint16) and k of the factor (int32)."""

    codes: Array
    factors: Array


class Prediction(NamedTuple):
    """Per element of a span.

    Attributes:
        words: What is predicted.
        contexts: uint8.
        loud: Which elements are coded at all; None for all of them.
        flips: Which residuals change sign; None for none of them.
    """

    words: Words
    contexts: Array
    loud: Array | None
    flips: Array | None


class Piece(NamedTuple):
    """Elements of one op: `size` from number `first`; `old` where the method has it.

    `number` is that of the op.
    """

    op: Op
    groups: Groups
    first: int
    size: int
    old: Words | None
    number: int = 0


def predict(piece: Piece, side: Side) -> Prediction:
    """Return the prediction of a piece.

    Raises:
        ValueError: The numbers of `side` are impossible.
    """
    groups, some, first = piece.groups.cut(piece.first, piece.size)
    piece = piece._replace(groups=groups, first=first)
    side = Side(side.codes[some], side.factors[some])
    loud = None
    if not np.all(side.codes):
        loud = groups.spread(side.codes, first, piece.size) != SILENT
    if piece.op.method is Method.NOVEL:
        return _predict_novel(piece, side)
    if piece.op.method is Method.AFFINE:
        return _predict_affine(piece, side, loud)
    return _predict_scaled(piece, side, loud)


def subtract(new: Words, prediction: Prediction, method: Method) -> Array:
    """Return the residuals, int32."""
    words = prediction.words
    bits = words.itemsize * 8
    if method is Method.NOVEL:
        mask = words.dtype.type((1 << bits - 1) - 1)
        size: Words = (words - (new & mask)) & mask
        sign = words.dtype.type(0) - (new >> words.dtype.type(bits - 1))
        size ^= sign
        return size.view(f"<i{words.itemsize}").astype(np.int32)
    left: Array = (new - words).view(f"<i{words.itemsize}")
    if prediction.flips is not None:
        # negation is complement plus one
        mirror = prediction.flips.astype(left.dtype)
        left ^= -mirror
        left += mirror
    return left.astype(np.int32, copy=False)


def restore(left: Array, prediction: Prediction, method: Method) -> Words:
    """Undo `subtract`; `left` is modulo 2^bits in words of the same width."""
    words = prediction.words
    bits = words.itemsize * 8
    if method is Method.NOVEL:
        mask = words.dtype.type((1 << bits - 1) - 1)
        sign = words.dtype.type(0) - (left >> words.dtype.type(bits - 1))
        size: Words = (words - (left ^ sign)) & mask
        size |= sign << words.dtype.type(bits - 1)
        return size
    if prediction.flips is not None:
        # negation is complement plus one
        mirror = prediction.flips.astype(left.dtype)
        left ^= left.dtype.type(0) - mirror
        left += mirror
    left += words
    return left


def _predict_scaled(piece: Piece, side: Side, loud: Array | None) -> Prediction:
    assert piece.old is not None  # noqa: S101 - the caller's duty, not a patch's
    kind, spread = piece.groups.kind, piece.groups.spread
    words = magnitudes = piece.old
    if kind and np.any(side.factors):
        factors = np.float32(1) + side.factors * np.float32(2.0**-piece.groups.precision)
        if factors.min() <= 0:
            raise ValueError("factor not above 0")
        each = spread(factors.astype(np.float32), piece.first, piece.size)
        words, magnitudes = floats.scale(words, each, kind)
    return Prediction(words, _classes_of(piece, side, magnitudes), loud, None)


def _classes_of(piece: Piece, side: Side, magnitudes: Words) -> Array:
    """Return the contexts of SCALED elements, in the narrowest words that hold them."""
    kind = piece.groups.kind
    top = ctx.PLAIN_CLASSES - 1
    least = side.codes.astype(np.int32) - CODE_ROOM
    if not kind:
        codes = least.clip(0, top).astype(np.uint8)
        spread: Array = piece.groups.spread(codes, piece.first, piece.size)
        return spread
    layout = floats.FORMATS[kind]
    narrow = np.uint8 if top + 2 * layout.mask < 1 << 8 else np.uint16
    codes = least.clip(0, top + 2 * layout.mask).astype(narrow)
    steps = magnitudes >> magnitudes.dtype.type(layout.mantissa)
    steps = steps.astype(narrow) & narrow(layout.mask)
    np.maximum(steps, narrow(1), out=steps)
    steps += steps
    classes: Array = np.maximum(piece.groups.spread(codes, piece.first, piece.size), steps)
    classes -= steps
    return np.minimum(classes, narrow(top), out=classes).astype(np.uint8, copy=False)


def _predict_affine(piece: Piece, side: Side, loud: Array | None) -> Prediction:
    assert piece.old is not None  # noqa: S101 - the caller's duty, not a patch's
    groups = piece.groups
    if np.any(np.abs(side.factors) >= MAX_AFFINE):
        raise ValueError("factor out of range")
    signed = groups.kind == 0
    slopes = groups.spread(side.factors + (1 << AFFINE_BITS), piece.first, piece.size)
    values = piece.old.view(np.int8 if signed else np.uint8).astype(np.int32)
    values -= groups.old_zero
    values *= slopes
    values += (groups.new_zero << AFFINE_BITS) + (1 << AFFINE_BITS - 1)
    whole = values >> AFFINE_BITS
    np.clip(whole, -128 if signed else 0, 127 if signed else 255, out=whole)
    values &= (1 << AFFINE_BITS) - 1
    values -= 1 << AFFINE_BITS - 1
    # the nearer to a half, the likelier the next number on that side
    flips = values < 0
    bins = np.abs(values) >> (AFFINE_BITS - 1 - 2)
    np.minimum(bins, ctx.FRACTIONS - 1, out=bins)
    classes = np.clip(side.codes.astype(np.int16) - CODE_ROOM, 0, ctx.AFFINE_CLASSES - 1)
    starts = (ctx.AFFINE + classes * ctx.FRACTIONS).astype(np.uint8)
    contexts = bins.astype(np.uint8)
    contexts += groups.spread(starts, piece.first, piece.size)
    return Prediction(whole.astype(np.uint8), contexts, loud, flips)


def _predict_novel(piece: Piece, side: Side) -> Prediction:
    # the code is class << 9 | exponent just above the largest of the group
    mantissa = floats.FORMATS[piece.groups.kind].mantissa
    width = piece.op.width
    tops = (side.codes & 0x1FF).astype(f"<u{width}") << np.array(mantissa, f"<u{width}")
    classes = np.minimum(side.codes >> 9, ctx.NOVEL_CLASSES - 1) + ctx.NOVEL
    spread = piece.groups.spread
    contexts = spread(classes.astype(np.uint8), piece.first, piece.size)
    return Prediction(spread(tops, piece.first, piece.size), contexts, None, None)
