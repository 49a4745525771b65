"""Which old tensor a new tensor most likely came from."""

from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .comparing import same_bytes
from .tensors import FORMAT_OF, Tensor
from .words import words_of

Array = NDArray[Any]

_SAMPLE: Final = 512
"""Bytes of a tensor that are looked at first."""
_ALIKE: Final = 8
"""Tensors of one sample that are compared byte by byte, at most."""
_COLUMNS: Final = 64
"""Elements of a row that tell it from another."""


class Pair(NamedTuple):
    """A new tensor with its old one; `equal` says that their bytes are the same."""

    new: Tensor
    old: Tensor | None
    equal: bool


def match_tensors(
    old: memoryview,
    new: memoryview,
    old_tensors: Sequence[Tensor],
    new_tensors: Sequence[Tensor],
) -> list[Pair]:
    """Return one pair per new tensor, in their order; more for one that grew or shrank.

    Tried in turn: same name and equal bytes; equal bytes under any name; same name, type
    and shape; same name, type and length; same type and shape in file order; same name and
    type with more or fewer rows. Names alone prove nothing: a retrained export renames and
    reorders.
    """
    found: dict[int, Pair] = {}
    by_name = {tensor.name: tensor for tensor in old_tensors}
    for number, tensor in enumerate(new_tensors):
        namesake = by_name.get(tensor.name)
        if namesake is not None and _equal(old, new, namesake, tensor):
            found[number] = Pair(tensor, namesake, equal=True)
    _match_contents(old, new, old_tensors, new_tensors, found)
    for rule in _RULES:
        _match_rule(rule, old_tensors, new_tensors, found)
    free = set(old_tensors) - {pair.old for pair in found.values()}
    pairs: list[Pair] = []
    for number, tensor in enumerate(new_tensors):
        namesake = by_name.get(tensor.name)
        if number in found:
            pairs.append(found[number])
        elif namesake in free and namesake is not None:
            pairs += _split_grown(old, new, namesake, tensor)
        else:
            pairs.append(Pair(tensor, None, equal=False))
    return pairs


_RULES: tuple[Callable[[Tensor], Hashable], ...] = (
    lambda tensor: (tensor.name, tensor.dtype, tensor.dims, tensor.length),
    lambda tensor: (tensor.name, tensor.dtype, tensor.length),
    lambda tensor: (tensor.dtype, tensor.dims, tensor.length),
)


def _match_rule(
    rule: Callable[[Tensor], Hashable],
    old_tensors: Sequence[Tensor],
    new_tensors: Sequence[Tensor],
    found: dict[int, Pair],
) -> None:
    """Pair what is left on both sides and the rule takes for the same, in file order."""
    used = {pair.old for pair in found.values()}
    waiting: dict[Hashable, deque[Tensor]] = defaultdict(deque)
    for tensor in old_tensors:
        if tensor not in used:
            waiting[rule(tensor)].append(tensor)
    for number, tensor in enumerate(new_tensors):
        if number not in found and (queue := waiting.get(rule(tensor))):
            found[number] = Pair(tensor, queue.popleft(), equal=False)


def _split_grown(
    old: memoryview, new: memoryview, base: Tensor, tensor: Tensor
) -> list[Pair]:
    """Return a pair of the rows before those that came or went, and one of those after.

    Rows that came are a pair without an old tensor. A tensor of another type is one pair.
    """
    if base.dtype != tensor.dtype:
        same = base.dims == tensor.dims and {base.dtype, tensor.dtype} <= set(FORMAT_OF)
        return [Pair(tensor, base if same else None, equal=False)]
    before, after = base.shape[0], tensor.shape[0]
    fits = base.shape[1:] == tensor.shape[1:]
    if not fits or len(tensor.shape) == 1 or before == after:
        return [Pair(tensor, None, equal=False)]
    head = find_cut(_rows(old, base), _rows(new, tensor))
    come, gone = max(0, after - before), max(0, before - after)
    pairs = [
        Pair(_cut(tensor, 0, head), _cut(base, 0, head), equal=False),
        Pair(_cut(tensor, head, head + come), None, equal=False),
        Pair(
            _cut(tensor, head + come, after), _cut(base, head + gone, before), equal=False
        ),
    ]
    return [pair for pair in pairs if pair.new.length]


def find_cut(old: Array, new: Array) -> int:
    """Return how many rows stand before those that came or went.

    Rows before the cut are like those with the same number, rows after it like those with
    the same number from the end. How unlike two rows are: the bits of their differences.

    Args:
        old: Rows of words.
        new: Rows of as many words, more or fewer of them.
    """
    rows = min(len(old), len(new))
    count = min(_COLUMNS, old.shape[1])
    places = np.arange(count) * old.shape[1] // count
    some_old, some_new = old[:, places], new[:, places]
    heads = _unlike(some_old[:rows], some_new[:rows])
    tails = _unlike(some_old[-rows:], some_new[-rows:])
    # the price of each cut: heads before it and tails after it
    prices = np.concatenate([[0.0], np.cumsum(heads - tails)])
    return int(prices.size - 1 - prices[::-1].argmin())


def _unlike(left: Array, right: Array) -> Array:
    words = (left - right).view(f"<i{left.itemsize}").astype(np.float64)
    bits: Array = np.log2(1 + np.abs(words)).sum(1)
    return bits


def _rows(data: memoryview, tensor: Tensor) -> Array:
    body = data[tensor.offset : tensor.offset + tensor.length]
    return words_of(body, tensor.element.width).reshape(tensor.shape[0], -1)


def _cut(tensor: Tensor, start: int, end: int) -> Tensor:
    """Return rows `start` to `end` of a tensor."""
    row = tensor.length // tensor.shape[0]
    return tensor._replace(
        dims=(end - start, *tensor.shape[1:]),
        offset=tensor.offset + start * row,
        length=(end - start) * row,
    )


def _match_contents(
    old: memoryview,
    new: memoryview,
    old_tensors: Sequence[Tensor],
    new_tensors: Sequence[Tensor],
    found: dict[int, Pair],
) -> None:
    lengths = {t.length for n, t in enumerate(new_tensors) if n not in found}
    index: dict[tuple[int, bytes], list[Tensor]] = defaultdict(list)
    for tensor in old_tensors:
        if tensor.length in lengths:
            index[_sample(old, tensor)].append(tensor)
    known = {length for length, _ in index}
    for number, tensor in enumerate(new_tensors):
        if number in found or tensor.length not in known:
            continue
        for base in index.get(_sample(new, tensor), [])[:_ALIKE]:
            if _equal(old, new, base, tensor):
                found[number] = Pair(tensor, base, equal=True)
                break


def _sample(data: memoryview, tensor: Tensor) -> tuple[int, bytes]:
    """Return what tensors of equal bytes have in common, and hardly any others."""
    body = data[tensor.offset : tensor.offset + tensor.length]
    return tensor.length, bytes(body[:: max(1, tensor.length // _SAMPLE | 1)])


def _equal(old: memoryview, new: memoryview, base: Tensor, tensor: Tensor) -> bool:
    return same_bytes(
        old[base.offset : base.offset + base.length],
        new[tensor.offset : tensor.offset + tensor.length],
    )
