"""Ways to predict a tensor, tried on a sample and then fitted to all of it."""

from collections.abc import Callable
from enum import Enum
from math import e, isqrt, prod
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import contexts as ctx
from .container import Method, Op
from .fitting import (
    Fit,
    Shape,
    find_zeros,
    fit_affine,
    fit_novel,
    fit_scaled,
    fit_whole,
    lower,
)
from .floats import FORMATS, exponents
from .prediction import Piece, predict, subtract
from .symbols import ALPHABET, split
from .tensors import BFLOAT16, Kind, Tensor
from .words import Words, words_of

Array = NDArray[Any]

SAMPLE: Final = 1 << 13
"""Elements on which methods compete."""
_SIDE_BITS: Final = 14
"""Bits that the numbers of a group cost, about."""
_EXCESS_STEP: Final = 6
_MOST_EXCESS: Final = 48
_MANY: Final = 1 << 12
"""Elements of a sample that says how low codes should be."""
_WORTH: Final = 0.985
"""Share of the cost above which lower codes are not worth the contexts that they mix."""
_SHIFTS: Final = {
    4: ctx.lay_shifts(FORMATS[1].mantissa, 4),
    2: ctx.lay_shifts(FORMATS[2].mantissa, 2),
    1: ctx.lay_shifts(1, 1),
}


class Data(NamedTuple):
    """The elements of a tensor, or a sample of them.

    Attributes:
        new: Words of the new tensor.
        old: Words of the old one, as many; None if there is none.
        dims: Shape; its product is the number of words.
        kind: What the elements are.
        format: Key of `FORMATS`; 0 for what is no float that symbols can code.
    """

    new: Words
    old: Words | None
    dims: tuple[int, ...]
    kind: Kind
    format: int


class Recipe(Enum):
    """How to fit."""

    WHOLE = "whole numbers as they were"
    AFFINE = "8-bit numbers with a factor"
    UNSCALED = "floats as they were"
    SCALED = "floats with a factor"
    NOVEL = "floats without an old tensor"


class Trial(NamedTuple):
    """A fit of a sample: `axis` has a group per index, None makes one group of all."""

    recipe: Recipe
    axis: int | None
    fit: Fit


def open_tensor(new: memoryview, old: memoryview | None, tensor: Tensor) -> Data:
    """Return the elements of a tensor, given its bytes in both files."""
    width, kind = tensor.element
    before = None if old is None else words_of(old, width)
    form = 0
    if kind is Kind.FLOAT and width <= 4:  # noqa: PLR2004 - symbols stop at 32 bits
        form = 3 if tensor.dtype == BFLOAT16 else {4: 1, 2: 2}[width]
    return Data(words_of(new, width), before, tensor.shape, kind, form)


def take_sample(data: Data) -> Data:
    """Return as many rows as columns, or part of a tensor that has none.

    With few rows a factor per column would explain what a factor per row should.
    """
    if len(data.dims) == 1 or prod(data.dims[2:]) > SAMPLE:
        size = min(data.new.size, SAMPLE)
        start = (data.new.size - size) // 2
        return _cut(data, lambda words: words[start : start + size], (size,))
    rows, columns, inner = data.dims[0], data.dims[1], prod(data.dims[2:])
    few = max(1, isqrt(SAMPLE // inner))
    height = min(rows, max(few, SAMPLE // (inner * min(columns, few))))
    width = min(columns, max(1, SAMPLE // (inner * height)))
    every, left = rows // height, (columns - width) // 2

    def block(words: Words) -> Words:
        shaped = words.reshape(rows, columns, inner)
        return shaped[: every * height : every, left : left + width].ravel()

    return _cut(data, block, (height, width, *data.dims[2:]))


def _cut(data: Data, take: Callable[[Words], Words], dims: tuple[int, ...]) -> Data:
    old = None if data.old is None else take(data.old)
    return data._replace(new=take(data.new), old=old, dims=dims)


def list_trials(data: Data, sample: Data) -> list[Trial]:
    """Return the fits that are worth measuring: the most promising of each recipe."""
    recipes: tuple[Recipe, ...]
    if sample.old is None:
        recipes = (Recipe.NOVEL,) if sample.format else ()
    elif sample.format:
        recipes = (Recipe.UNSCALED, Recipe.SCALED, Recipe.NOVEL)
    else:
        recipes = (
            (Recipe.WHOLE, Recipe.AFFINE) if sample.new.itemsize == 1 else (Recipe.WHOLE,)
        )
    trials: list[Trial] = []
    for recipe in recipes:
        found = [
            Trial(recipe, axis, fit(recipe, sample, axis)) for axis in _axes(recipe, sample)
        ]
        # how near to a half a prediction falls says more than sizes do: measure each
        trials += found if recipe is Recipe.AFFINE else [_best_promise(found, data, sample)]
    if recipes[:1] == (Recipe.UNSCALED,):
        return [_best_promise(trials[:2], data, sample), *trials[2:]]
    return trials


def fit(recipe: Recipe, data: Data, axis: int | None) -> Fit:
    """Return the fit of a tensor or a sample."""
    shape = _shape(data.dims, axis)
    if recipe is Recipe.NOVEL or data.old is None:
        return fit_novel(data.new, data.format, shape)
    if recipe is Recipe.WHOLE:
        return fit_whole(data.old, data.new, shape)
    if recipe is Recipe.AFFINE:
        kind = 0 if data.kind is Kind.SIGNED else 1
        zeros = find_zeros(data.old, data.new, kind, shape)
        return fit_affine(data.old, data.new, zeros, kind, shape)
    scaled = recipe is Recipe.SCALED
    return fit_scaled(data.old, data.new, data.format, shape, scaled=scaled)


def fit_all(winner: Trial, data: Data) -> Fit:
    """Return the fit of a tensor after that of its sample.

    A sample may have missed the few rows that changed most: where the axis that won would
    pay for them, each row becomes a group.
    """
    recipe = winner.recipe
    if winner.axis == 0 or len(data.dims) == 1 or recipe in (Recipe.NOVEL, Recipe.AFFINE):
        return fit(recipe, data, winner.axis)
    rows = Trial(recipe, 0, fit(recipe, data, 0))
    if winner.axis is None:
        mean = rows.fit.sizes.mean(keepdims=True)
        other = Trial(recipe, None, rows.fit._replace(sizes=mean))
    else:
        other = Trial(recipe, winner.axis, fit(recipe, data, winner.axis))
    if _promise(rows, data, data) < _promise(other, data, data):
        return rows.fit
    return other.fit if winner.axis is not None else fit(recipe, data, None)


def find_excess(trial: Trial, data: Data, sample: Data, cost: float) -> int:
    """Return how much lower the codes should be than the mean sizes say.

    A code says how many low bits are noise. Where most residuals are far smaller than the
    rest, these bits would be sent for nothing; large residuals among small ones cost
    little more than they must.

    Args:
        trial: What won.
        data: The tensor.
        sample: Of it.
        cost: What the sample takes as it is, in bits.
    """
    floats = trial.recipe in (Recipe.SCALED, Recipe.UNSCALED)
    if not floats or sample.new.size < _MANY:
        return 0
    excess, least = 0, cost
    for less in range(_EXCESS_STEP, _MOST_EXCESS, _EXCESS_STEP):
        found = measure(trial._replace(fit=lower(trial.fit, less)), data, sample)
        if found >= least:
            break
        excess, least = less, found
    return excess if least < _WORTH * cost else 0


def measure(trial: Trial, data: Data, sample: Data) -> float:
    """Return the bits that a sample takes, with its share of what the groups cost."""
    found = trial.fit
    op = Op(found.method, sample.new.itemsize, 0, sample.new.nbytes, 0, b"")
    old = None if found.method is Method.NOVEL else sample.old
    guess = predict(Piece(op, found.groups, 0, sample.new.size, old), found.side)
    left = subtract(sample.new, guess, found.method)
    contexts = guess.contexts
    if guess.loud is not None:
        left, contexts = left[guess.loud], contexts[guess.loud]
    side = _side_bits(data.dims, trial.axis) * sample.new.size
    if not left.size:
        return side
    shift = _SHIFTS[sample.new.itemsize].take(contexts)
    parts = split(left, shift, sample.new.itemsize * 8)
    spent = _entropy(contexts.astype(np.int32) * ALPHABET + parts.symbols)
    return side + spent + float(parts.widths.sum(dtype=np.int64))


def _axes(recipe: Recipe, data: Data) -> tuple[int | None, ...]:
    if len(data.dims) == 1:
        return (None,)
    if recipe is Recipe.NOVEL:
        return (0,)
    return (0, 1) if recipe is Recipe.AFFINE else (None, 0, 1)


def _best_promise(trials: list[Trial], data: Data, sample: Data) -> Trial:
    if len(trials) == 1:
        return trials[0]
    return min(trials, key=lambda trial: _promise(trial, data, sample))


def _promise(trial: Trial, data: Data, sample: Data) -> float:
    """Return about how many bits an element takes, judged by the sizes of its groups."""
    if trial.recipe is Recipe.NOVEL:
        return 0.0
    sizes = trial.fit.sizes.astype(np.float64)
    if sample.format:
        layout = FORMATS[sample.format]
        power = exponents(sample.new[:1024], sample.format).mean()
        sizes *= 2.0 ** (layout.bias + layout.mantissa - power)
    bits = np.log2(1 + 2 * e * np.nan_to_num(sizes)).mean()
    return float(bits) + _side_bits(data.dims, trial.axis)


def _entropy(codes: Array) -> float:
    """Return the bits of these symbols in their contexts, and a bit to learn each."""
    counts = np.bincount(codes)
    counts = np.pad(counts, (0, -counts.size % ALPHABET)).reshape(-1, ALPHABET)
    counts = counts[counts.any(1)]
    totals = counts.sum(1)
    logs = np.log2(np.maximum(counts, 1))
    bits = (totals * np.log2(totals)).sum() - (counts * logs).sum()
    return float(bits) + int(np.count_nonzero(counts))


def _shape(dims: tuple[int, ...], axis: int | None) -> Shape:
    total = prod(dims)
    if axis is None:
        return Shape(1, 1, total)
    inner = prod(dims[axis + 1 :])
    return Shape(total // inner // dims[axis], dims[axis], inner)


def _side_bits(dims: tuple[int, ...], axis: int | None) -> float:
    shape = _shape(dims, axis)
    return _SIDE_BITS / (shape.outer * shape.inner)
