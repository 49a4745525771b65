"""Factors and sizes per group, from both files. Only the encoder does this.

Nothing here must be exact: what comes out is written into the patch.
"""

from math import log, log2
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import contexts as ctx
from .container import Method
from .floats import FORMATS, exponents, to_float32
from .groups import MAX_PRECISION, Groups
from .prediction import AFFINE_BITS, MAX_AFFINE, SILENT, Side
from .words import Words

Array = NDArray[Any]

CODE_ROOM: Final = 2
_EXACT: Final = 1
"""The code of the smallest residuals: no raw bits, whatever the exponent."""
_MAX_FACTOR: Final = 1 << 27
_QUIET: Final = 0.8
"""Share of the groups that may be coarser than what the precision of factors is for."""
_MIXED: Final = 4
"""A mean so many times what is typical is that of a few large residuals."""
_SHARES: Final = tuple((share, -log(1 - share)) for share in (0.1, 0.25, 0.5))
"""Shares of the residuals, and below which part of their mean these are if exponential."""
_BENT: Final = 1.5
"""A slope whose median residual is so many times that of the median slope is bent."""
_FEW_BENT: Final = 0.02
"""Share of the groups that may be, by chance."""
_FAR: Final = np.float32(4)
"""Residuals of so many medians do not count for a factor."""
_SPREAD: Final = 97
"""Elements of a group that show how its residuals are spread; a prime, as well."""
_TINY: Final = np.float32(1e-37)


_ENOUGH: Final = 1024
"""Elements by which a group is fitted: its factor is then 4 % of the residual off."""


_AT_ONCE: Final = 1 << 20
"""Elements compared at once."""


class Shape(NamedTuple):
    """Elements as (outer, groups, inner); group n is `[:, n, :]`."""

    outer: int
    groups: int
    inner: int

    def of(self, values: Array) -> Array:
        """Return `values` in this shape."""
        return values.reshape(self.outer, self.groups, self.inner)

    def some(self, values: Array) -> Array:
        """Return enough of each group of `values` to fit it."""
        shaped = self.of(values)
        if self.inner > 2 * _ENOUGH:
            return shaped[0, :, _list_places(self.inner, _ENOUGH)].T[None]
        return shaped[:: max(1, self.outer * self.inner // _ENOUGH)]


class Fit(NamedTuple):
    """A way to predict a tensor; `sizes` are the mean residuals per group, unrounded."""

    method: Method
    groups: Groups
    side: Side
    sizes: Array


def fit_scaled(old: Words, new: Words, kind: int, shape: Shape, *, scaled: bool) -> Fit:
    """Fit floats: new = old times a factor per group, or times 1."""
    with np.errstate(all="ignore"):
        before = to_float32(np.ascontiguousarray(shape.some(old)), kind)
        step = to_float32(np.ascontiguousarray(shape.some(new)), kind) - before
        precision, factors = 0, np.zeros(shape.groups, np.int32)
        if scaled:
            precision, factors = _fit_factors(before, step, kind)
            slopes = factors.astype(np.float32) * np.float32(2.0**-precision)
            step -= before * slopes[:, None]
        np.abs(step, out=step)
        mean = step.mean((0, 2), dtype=np.float32)
        changed = np.count_nonzero(step, (0, 2)) / (step.shape[0] * step.shape[2])
        sizes = _typical_sizes(step, before, kind)
        sizes = np.where(sizes * _MIXED < mean, sizes, mean)
        power = np.abs(before).mean((0, 2), dtype=np.float32)
    layout = FORMATS[kind]
    codes = _codes_of(sizes, 2 * (layout.bias + layout.mantissa))
    noise = np.log2(np.maximum(mean / np.maximum(power, _TINY), _TINY)) + layout.mantissa
    codes[_is_sparse(changed, noise, old.itemsize * 8)] = _EXACT
    same = _list_same(old, new, shape)
    codes[same], factors[same] = SILENT, 0
    groups = Groups(kind, precision, shape.inner, shape.groups)
    return Fit(Method.SCALED, groups, Side(codes, factors), sizes)


def lower(found: Fit, less: int) -> Fit:
    """Return the fit with its codes lowered: fewer low bits are noise."""
    codes = found.side.codes.astype(np.int32)
    codes = np.where(codes > _EXACT, np.maximum(codes - less, _EXACT), codes)
    return found._replace(side=found.side._replace(codes=codes.astype(np.uint16)))


def fit_whole(old: Words, new: Words, shape: Shape) -> Fit:
    """Fit whole numbers: new = old."""
    left = (shape.some(new) - shape.some(old)).view(f"<i{old.itemsize}")
    sizes = np.abs(left.astype(np.float32)).mean((0, 2))
    codes = _codes_of(sizes, 0)
    changed = np.count_nonzero(left, (0, 2)) / (left.shape[0] * left.shape[2])
    noise = np.log2(np.maximum(sizes, 1))
    codes[_is_sparse(changed, noise, old.itemsize * 8)] = _EXACT
    codes[_list_same(old, new, shape)] = SILENT
    side = Side(codes, np.zeros(shape.groups, np.int32))
    return Fit(Method.SCALED, Groups(0, 0, shape.inner, shape.groups), side, sizes)


def fit_affine(
    old: Words, new: Words, zeros: tuple[int, int], kind: int, shape: Shape
) -> Fit:
    """Fit 8-bit numbers: new - zero = (old - zero) times a factor per group."""
    view = np.int8 if kind == 0 else np.uint8
    before = shape.some(old.view(view)).astype(np.float32) - np.float32(zeros[0])
    after = shape.some(new.view(view)).astype(np.float32) - np.float32(zeros[1])
    power = np.maximum(np.einsum("oci,oci->c", before, before), _TINY)
    slopes = np.einsum("oci,oci->c", before, after) / power - 1
    limit = MAX_AFFINE - 1
    factors = np.rint(slopes * (1 << AFFINE_BITS)).clip(-limit, limit).astype(np.int32)
    slopes = 1 + factors.astype(np.float32) * np.float32(2.0**-AFFINE_BITS)
    rest = np.abs(_few_of(after) - _few_of(before) * slopes[:, None])
    # what is left of rounding alone says nothing about the network
    sizes = np.rint(rest).mean(1)
    groups = Groups(kind, AFFINE_BITS, shape.inner, shape.groups, *zeros)
    side = Side(_codes_of(sizes, 0), factors)
    return Fit(Method.AFFINE, groups, side, rest.mean(1))


def find_zeros(old: Words, new: Words, kind: int, shape: Shape) -> tuple[int, int]:
    """Return the zero points of old and new elements that explain the groups best.

    Each group lies on a line new = slope x old + offset; all these lines meet in the point
    of the two zero points.
    """
    if kind == 0:
        return 0, 0
    before, after = (shape.some(words).astype(np.float32) for words in (old, new))
    size = before.shape[0] * before.shape[2]
    mean_x, mean_y = before.mean((0, 2)), after.mean((0, 2))
    cross = np.einsum("oci,oci->c", before, after) / size - mean_x * mean_y
    power = np.einsum("oci,oci->c", before, before) / size - mean_x**2
    slopes = cross / np.maximum(power, 1e-3)
    offsets = mean_y - slopes * mean_x
    spread = slopes - slopes.mean()
    if shape.groups < 3 or float(spread @ spread) < 1e-9:  # noqa: PLR2004 - no line to fit
        zero = 128
        return zero, round(float(np.median(offsets + slopes * zero)))
    zero = round(-float(spread @ offsets) / float(spread @ spread))
    zero = min(max(zero, -255), 511)
    return zero, min(max(round(float(np.median(offsets + slopes * zero))), -255), 511)


def _list_same(old: Words, new: Words, shape: Shape) -> Array:
    """Return the groups in which nothing changed at all."""
    same: Array = (shape.some(old) == shape.some(new)).all((0, 2))
    step = max(1, _AT_ONCE // (shape.outer * shape.inner))
    for at in range(0, shape.groups, step):
        some = slice(at, at + step)
        if same[some].any():
            left, right = shape.of(old)[:, some], shape.of(new)[:, some]
            same[some] = (left == right).all((0, 2))
    return same


def fit_novel(new: Words, kind: int, shape: Shape) -> Fit:
    """Fit floats without an old tensor: the largest and the mean exponent per group."""
    powers = shape.of(exponents(new, kind))
    top = powers.max((0, 2)).astype(np.int32)
    low = top - powers.mean((0, 2), dtype=np.float32)
    classes = np.clip(low - 1, 0, ctx.NOVEL_CLASSES - 1).astype(np.int32)
    codes = (classes << 9 | (top + 1)).astype(np.uint16)
    side = Side(codes, np.zeros(shape.groups, np.int32))
    return Fit(Method.NOVEL, Groups(kind, 0, shape.inner, shape.groups), side, low)


def _fit_factors(before: Array, step: Array, kind: int) -> tuple[int, Array]:
    slopes = _fit_slopes(before, step, kind)
    # as fine as the quieter groups need: an embedding has rows that only decayed
    size = np.abs(before).mean((0, 2), dtype=np.float32)
    rest = _spread_of(step - before * slopes[:, None])
    ratio = np.where(rest > 0, size / np.maximum(rest, _TINY), 2.0**MAX_PRECISION)
    ratio = np.nan_to_num(ratio[size > 0], nan=1.0, posinf=1.0)
    quiet = float(np.sort(ratio)[int(_QUIET * (ratio.size - 1))]) if ratio.size else 1.0
    precision = min(max(round(log2(max(quiet, 1.0))) + 3, 4), MAX_PRECISION)
    limit, least = min(_MAX_FACTOR, 1 << 23), 1 - (1 << precision)  # a factor is above 0
    factors = np.rint(slopes * 2.0**precision).clip(max(-limit, least), limit)
    return precision, factors.astype(np.int32)


def _fit_slopes(before: Array, step: Array, kind: int) -> Array:
    """Return the slopes of `step` over `before` by least squares, without outliers.

    A filter of which some taps learnt and the others only moved with their batch norm has
    a factor, which those that learnt must not bend: the median of the ratios says which.
    """
    power = np.einsum("oci,oci->c", before, before)
    slopes: Array = np.einsum("oci,oci->c", before, step) / np.maximum(power, _TINY)
    slopes[~np.isfinite(slopes)] = 0
    x, y = _few_of(before), _few_of(step)
    start = _middles(np.where(x != 0, y / x, 0))
    start[~np.isfinite(start)] = 0
    near = _middles(np.abs(y - x * start[:, None]))
    bent = _middles(np.abs(y - x * slopes[:, None])) > _BENT * near
    if np.count_nonzero(bent) > _FEW_BENT * bent.size:
        before, step = before[:, bent], step[:, bent]
        slopes[bent] = _fit_inliers(before, step, start[bent], _FAR * near[bent], kind)
    return slopes


def _fit_inliers(before: Array, step: Array, start: Array, near: Array, kind: int) -> Array:
    left = step - before * start[:, None]
    # what rounding does to a number is no outlier
    limit = np.abs(before) * np.float32(2.0 ** -(FORMATS[kind].mantissa - 1))
    np.maximum(limit, near[:, None], out=limit)
    inliers = np.where(np.abs(left) <= limit, before, 0)
    power = np.einsum("oci,oci->c", inliers, inliers)
    change = np.einsum("oci,oci->c", inliers, left) / np.maximum(power, _TINY)
    change[~np.isfinite(change)] = 0
    slopes: Array = start + change
    return slopes


def _spread_of(left: Array) -> Array:
    """Return what the mean size of residuals would be without those that are far larger."""
    sizes = np.abs(_few_of(left))
    spread: Array = np.minimum(_middles(sizes) / np.float32(log(2)), sizes.mean(1))
    return spread


def _middles(rows: Array) -> Array:
    """Return the median of each row; of an even number the upper one."""
    at = rows.shape[1] // 2
    middles: Array = np.partition(rows, at, 1)[:, at]
    return middles


def _few_of(values: Array) -> Array:
    """Return some elements of each group, one row per group."""
    outer, groups, inner = values.shape
    wide = min(inner, _SPREAD)
    high = max(1, min(outer, _SPREAD // wide))
    some = values[:: outer // high].take(_list_places(inner, wide), 2)
    return np.moveaxis(some, 1, 0).reshape(groups, -1)


def _list_places(size: int, count: int) -> Array:
    """Return `count` places spread over `size`."""
    return np.arange(count) * size // count


def _typical_sizes(step: Array, before: Array, kind: int) -> Array:
    """Return what the mean would be if most residuals were not far smaller than the rest.

    The size of a group says how many low bits are noise: those of small residuals would be
    sent for nothing. Large ones among small cost little more than they must.

    Args:
        step: Sizes of the residuals, in the shape (outer, groups, inner).
        before: The numbers themselves.
        kind: Key of `FORMATS`.
    """
    # what is below the smallest step of a number is not sent whatever the size
    least = np.abs(_few_of(before)) * np.float32(2.0 ** -(FORMATS[kind].mantissa + 1))
    sizes = np.sort(np.maximum(_few_of(step), least), 1)
    places = [(int(share * sizes.shape[1]), part) for share, part in _SHARES]
    found: Array = np.min([sizes[:, at] / np.float32(part) for at, part in places], 0)
    return found


def _is_sparse(changed: Array, noise: Array, bits: int) -> Array:
    """Return the groups of which so little changed that what changed may go as ESCAPE.

    Args:
        changed: Share of the elements that did.
        noise: log2 of the mean residual: about what each element would pay in raw bits.
        bits: Of an element.
    """
    sparse: Array = changed * bits < noise - 2
    return sparse


def _codes_of(sizes: Array, offset: int) -> Array:
    """Return codes of mean sizes; `offset` makes the smallest step of a float size 1."""
    logs = np.log2(np.maximum(sizes.astype(np.float64), 2.0**-140))
    logs[~np.isfinite(logs)] = 0
    codes: Array = np.rint(2 * logs) + offset + ctx.SIZE_ONE + CODE_ROOM
    return codes.clip(1, 0x7FFF).astype(np.uint16)
