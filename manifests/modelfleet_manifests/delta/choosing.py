"""Which method a tensor gets: they compete on a sample."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import contexts as ctx
from .container import Method, Op
from .fitting import Fit, Shape, find_zeros, fit_affine, fit_novel, fit_scaled, fit_whole
from .floats import FORMATS
from .groups import pack_groups
from .planes import encode_planes
from .prediction import Piece, Side, predict, subtract
from .residual import subtract as plane_subtract
from .symbols import ALPHABET, split
from .tensors import BFLOAT16, Kind, Tensor
from .words import Words, words_of

Array = NDArray[Any]

SAMPLE: Final = 1 << 14
"""Elements on which methods compete."""
MIN_SYMBOLS: Final = 16
"""Elements below which a tensor is not worth groups of its own."""
_SIDE_BITS: Final = 14
"""Bits that the numbers of a group cost, about."""
_PLANES: Final = (Method.SUBTRACT, Method.XOR, Method.FRESH)


class Choice(NamedTuple):
    """The op of a tensor, its gap and base to be set; `side` for methods of symbols."""

    op: Op
    side: Side | None


class _Data(NamedTuple):
    """The elements of a tensor, or a sample of them."""

    new: Words
    old: Words | None
    dims: tuple[int, ...]
    kind: Kind
    format: int


def choose(new: memoryview, old: memoryview | None, tensor: Tensor) -> Choice:
    """Return how to code a tensor.

    Args:
        new: Its bytes.
        old: The bytes of the old tensor, as many; None if there is none.
        tensor: Its type and shape.
    """
    width, kind = tensor.element
    data = _Data(
        words_of(new, width),
        None if old is None else words_of(old, width),
        tensor.shape,
        kind,
        _format_of(tensor),
    )
    sample = _sample(data)
    planes = min(_plane_costs(sample), key=lambda cost: cost[0])
    least, winner = planes[0], None
    fits = list(_fits(sample)) if width <= 4 and sample.new.size >= MIN_SYMBOLS else []  # noqa: PLR2004
    for axis, fit in fits:
        share = _side_share(data.dims, axis)
        cost = _measure(fit, sample) + _SIDE_BITS * share * sample.new.size
        if cost < least:
            least, winner = cost, (axis, fit)
    if winner is None:
        return Choice(Op(planes[1], width, 0, len(new), 0, b""), None)
    return _settle(*winner, data)


def _format_of(tensor: Tensor) -> int:
    width, kind = tensor.element
    if kind is not Kind.FLOAT or width > 4:  # noqa: PLR2004 - double has no symbols
        return 0
    return 3 if tensor.dtype == BFLOAT16 else {4: 1, 2: 2}[width]


def _sample(data: _Data) -> _Data:
    """Return some whole rows from the middle; the dims say how many."""
    rows = data.dims[0]
    columns = data.new.size // rows
    count = max(1, min(rows, SAMPLE // columns))
    start = (rows - count) // 2 * columns
    end = start + count * columns
    if count == 1 and columns > SAMPLE and len(data.dims) == 1:
        end = start + SAMPLE
    cut = slice(start, end)
    dims = (count, *data.dims[1:]) if len(data.dims) > 1 else (end - start,)
    old = None if data.old is None else data.old[cut]
    return data._replace(new=data.new[cut], old=old, dims=dims)


def _shape(dims: tuple[int, ...], axis: int | None) -> Shape:
    total = int(np.prod(dims, dtype=np.int64))
    if axis is None:
        return Shape(1, 1, total)
    inner = int(np.prod(dims[axis + 1 :], dtype=np.int64))
    return Shape(total // inner // dims[axis], dims[axis], inner)


def _side_share(dims: tuple[int, ...], axis: int | None) -> float:
    shape = _shape(dims, axis)
    return 1 / (shape.outer * shape.inner)


def _axes(dims: tuple[int, ...]) -> list[int | None]:
    return [None] if len(dims) < 2 else [None, 0, 1]  # noqa: PLR2004 - a matrix


def _fits(data: _Data) -> Iterator[tuple[int | None, Fit]]:
    for axis in _axes(data.dims):
        for recipe in _recipes(data):
            if recipe != "affine" or axis is not None:
                yield axis, _fit(recipe, data, axis)


def _recipes(data: _Data) -> list[str]:
    if data.old is None:
        return ["novel"] if data.format else []
    if data.format:
        return ["scaled", "unscaled", "novel"]
    return ["whole", "affine"] if data.new.itemsize == 1 else ["whole"]


def _fit(recipe: str, data: _Data, axis: int | None) -> Fit:
    shape = _shape(data.dims, axis)
    if recipe == "novel" or data.old is None:
        return fit_novel(data.new, data.format, shape)
    if recipe == "whole":
        return fit_whole(data.old, data.new, shape)
    if recipe == "affine":
        kind = 0 if data.kind is Kind.SIGNED else 1
        zeros = find_zeros(data.old, data.new, kind, shape)
        return fit_affine(data.old, data.new, zeros, kind, shape)
    return fit_scaled(data.old, data.new, data.format, shape, scaled=recipe == "scaled")


def _measure(fit: Fit, data: _Data) -> float:
    """Return the bits that a sample takes, but for the learning of frequencies."""
    op = Op(fit.method, data.new.itemsize, 0, data.new.nbytes, 0, b"")
    old = None if fit.method is Method.NOVEL else data.old
    guess = predict(Piece(op, fit.groups, 0, data.new.size, old), fit.side)
    left = subtract(data.new, guess, fit.method)
    contexts = guess.contexts
    if guess.loud is not None:
        left, contexts = left[guess.loud], contexts[guess.loud]
    if not left.size:
        return 0.0
    shift = _SHIFTS[data.new.itemsize].take(contexts)
    symbols, _, widths = split(left, shift, data.new.itemsize * 8)
    counts = np.bincount(contexts.astype(np.int32) * ALPHABET + symbols)
    counts = np.pad(counts, (0, -counts.size % ALPHABET)).reshape(-1, ALPHABET)
    totals = counts.sum(1, keepdims=True)
    used = counts > 0
    logs = np.log2(counts, where=used, out=np.zeros(counts.shape))
    spent = (totals * np.log2(np.maximum(totals, 1))).sum() - (counts * logs).sum()
    return float(spent) + float(widths.sum(dtype=np.int64)) + float(used.sum())


def _plane_costs(data: _Data) -> Iterator[tuple[float, Method]]:
    for method in _PLANES:
        if data.old is None and method is not Method.FRESH:
            continue
        left = plane_subtract(data.new, data.old, method)
        yield 8.0 * len(encode_planes(left)), method


def _settle(axis: int | None, fit: Fit, data: _Data) -> Choice:
    """Fit the whole tensor in the way that won on the sample."""
    whole = _fit(_recipe_of(fit, data), data, axis)
    params = pack_groups(whole.groups)
    return Choice(
        Op(whole.method, data.new.itemsize, 0, data.new.nbytes, 0, params), whole.side
    )


def _recipe_of(fit: Fit, data: _Data) -> str:
    if fit.method is Method.NOVEL:
        return "novel"
    if fit.method is Method.AFFINE:
        return "affine"
    if not data.format:
        return "whole"
    return "scaled" if fit.groups.precision else "unscaled"


_SHIFTS: Final = {
    4: ctx.lay_shifts(FORMATS[1].mantissa),
    2: ctx.lay_shifts(FORMATS[2].mantissa),
    1: ctx.lay_shifts(1),
}
