"""Which elements of a tensor share a factor and an expected size."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .container import Method, Op
from .varints import fold_sign, read_varint, unfold_sign, write_varint

Array = NDArray[Any]

MAX_PRECISION: Final = 24
MAX_ZERO: Final = 1 << 9


class Groups(NamedTuple):
    """Element i is in group `i // inner % total`: rows, columns or any axis between.

    Attributes:
        kind: 0 integers, 1 float32, 2 float16, 3 bfloat16; for AFFINE 0 signed, 1 unsigned.
        precision: Factors are 1 + k / 2^precision.
        inner: Elements in a row that share a group.
        total: Groups.
        old_zero: AFFINE: zero point of the old elements.
        new_zero: AFFINE: zero point of the new elements.
    """

    kind: int
    precision: int
    inner: int
    total: int
    old_zero: int = 0
    new_zero: int = 0

    def spread(self, values: Array, first: int, size: int) -> Array:
        """Return the value of each element's group, for `size` elements from `first`."""
        if self.total == 1:
            return np.broadcast_to(values[0], (size,))
        start, end = first // self.inner, (first + size - 1) // self.inner
        wanted = self._wrap(values, start % self.total, end - start + 1)
        if self.inner == 1:
            return wanted
        repeats = np.full(wanted.size, self.inner)
        repeats[-1] -= (end + 1) * self.inner - first - size
        repeats[0] -= first - start * self.inner
        return np.repeat(wanted, repeats)

    def cut(self, first: int, size: int) -> "tuple[Groups, slice, int]":
        """Return what is left when only `size` elements from `first` count.

        Returns:
            Groups that hold the same for these elements, which of all groups they are, and
            the number of the first element among them.
        """
        start, end = first // self.inner, (first + size - 1) // self.inner
        least, count = start % self.total, end - start + 1
        if least + count > self.total:
            return self, slice(None), first
        kept = self._replace(total=count)
        return kept, slice(least, least + count), first - start * self.inner

    def _wrap(self, values: Array, start: int, count: int) -> Array:
        """Return `count` values from `start`, beginning anew after the last."""
        if start + count <= self.total:
            return values[start : start + count]
        ring = np.concatenate([values[start:], values[:start]])
        return np.resize(ring, count)


def pack_groups(groups: Groups) -> bytes:
    """Return the parameters of an op."""
    zeros = (fold_sign(groups.old_zero), fold_sign(groups.new_zero))
    numbers = (groups.inner, groups.total, *(zeros if any(zeros) else ()))
    head = bytes([groups.kind, groups.precision])
    return head + b"".join(write_varint(number) for number in numbers)


def read_groups(op: Op) -> Groups:
    """Return the groups of an op.

    Raises:
        ValueError: Its parameters are impossible.
    """
    if len(op.params) < 4:  # noqa: PLR2004 - the shortest there are
        raise ValueError("parameters too short")
    kind, precision = op.params[:2]
    numbers: list[int] = []
    at = 2
    while at < len(op.params):
        value, at = read_varint(op.params, at)
        numbers.append(value)
    if len(numbers) < 2:  # noqa: PLR2004 - inner and total
        raise ValueError("parameters too short")
    inner, total, *zeros = numbers
    groups = Groups(
        kind, precision, inner, total, *(unfold_sign(zero) for zero in zeros[:2])
    )
    _check(op, groups, len(zeros))
    return groups


_WIDTHS: Final = {1: 4, 2: 2, 3: 2}


def _check(op: Op, groups: Groups, zeros: int) -> None:
    elements = op.length // op.width
    sizes_fit = 1 <= groups.inner <= elements and 1 <= groups.total <= elements
    zeros_fit = (
        zeros in (0, 2) and max(abs(groups.old_zero), abs(groups.new_zero)) < MAX_ZERO
    )
    if not (sizes_fit and zeros_fit and groups.precision <= MAX_PRECISION):
        raise ValueError("parameters out of range")
    if op.method is Method.AFFINE:
        kind_fits = op.width == 1 and groups.kind <= 1
    else:
        kind_fits = _WIDTHS.get(groups.kind, op.width) == op.width and op.width < 8  # noqa: PLR2004
    if not kind_fits or (op.method is Method.NOVEL and not groups.kind) or groups.kind > 3:  # noqa: PLR2004
        raise ValueError("parameters of another method")
