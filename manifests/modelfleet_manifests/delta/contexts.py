"""Contexts: what both sides know of an element before it is coded.

A class c stands for an expected size of 2^((c - 8) / 2): two classes per octave.
"""

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .tables import guess_counts

Array = NDArray[Any]

SIZE_ONE: Final = 8
"""The class of an expected size of 1."""
PLAIN: Final = 0
"""First context of SCALED elements: one per class."""
PLAIN_CLASSES: Final = 72
AFFINE: Final = PLAIN + PLAIN_CLASSES
"""First context of AFFINE elements: `FRACTIONS` per class."""
AFFINE_CLASSES: Final = 24
FRACTIONS: Final = 4
NOVEL: Final = AFFINE + AFFINE_CLASSES * FRACTIONS
"""First context of NOVEL elements."""
NOVEL_CLASSES: Final = 8
CONTEXTS: Final = NOVEL + NOVEL_CLASSES

_SINGLE: Final = 23
"""Bits of the mantissa of float32."""
NOVEL_BINS_LOG: Final = 1
"""Bins per octave of a NOVEL magnitude, log2."""


def lay_shifts(mantissa: int, width: int) -> Array:
    """Return per context the low bits that go raw, uint8.

    Args:
        mantissa: Bits of the mantissa of this width's float, for NOVEL.
        width: Bytes of a word; one bit of it at least is no noise.
    """
    classes = np.arange(PLAIN_CLASSES)
    plain = np.maximum(0, (classes - SIZE_ONE) // 2 - 2)
    rest = np.zeros(AFFINE_CLASSES * FRACTIONS, np.int64)
    novel = np.full(NOVEL_CLASSES, mantissa - NOVEL_BINS_LOG)
    shifts = np.concatenate([plain, rest, novel])
    laid: Array = np.minimum(shifts, 8 * width - 1).astype(np.uint8)
    return laid


@functools.cache
def lay_guesses(width: int) -> Array:
    """Return the counts that each context starts from, for words of `width` bytes."""
    shifts = lay_shifts(_SINGLE, 4)[:PLAIN_CLASSES].astype(np.int64)
    classes = np.arange(PLAIN_CLASSES)
    plain = np.maximum(_sixteenths(classes) >> shifts, 1)
    affine = np.repeat(_sixteenths(np.arange(AFFINE_CLASSES)), FRACTIONS)
    novel = np.full(NOVEL_CLASSES, 16 * 5)
    means = np.concatenate([plain, affine, novel])
    cut = np.concatenate([shifts > 0, affine < 0, novel > 0])
    rest = np.zeros(means.size - PLAIN_CLASSES, np.int64)
    tops = np.full(PLAIN_CLASSES, 1 << 8 * width - 1)
    return guess_counts(
        means, cut, np.concatenate([shifts, rest]), np.concatenate([tops, rest])
    )


def _sixteenths(classes: Array) -> Array:
    """Return the expected size of each class in 1/16, at least 1."""
    halves = np.where(classes & 1, 23, 16).astype(np.int64)
    sizes: Array = np.maximum((halves << classes // 2) >> SIZE_ONE // 2, 1)
    return sizes
