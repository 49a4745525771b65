"""Which old tensor a new tensor most likely came from."""

import hashlib
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from .comparing import same_bytes
from .tensors import Tensor


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
    """Return one pair per new tensor, in their order; two for one that grew or shrank.

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
            pairs += _split_grown(namesake, tensor)
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


def _split_grown(base: Tensor, tensor: Tensor) -> list[Pair]:
    """Return a pair of the rows that both have, and one of those that are new."""
    rows = min(base.shape[0], tensor.shape[0])
    fits = base.dtype == tensor.dtype and base.shape[1:] == tensor.shape[1:]
    if not fits or len(tensor.shape) == 1 or rows == base.shape[0] == tensor.shape[0]:
        return [Pair(tensor, None, equal=False)]
    cut = tensor.length // tensor.shape[0] * rows
    dims = (rows, *tensor.shape[1:])
    pairs = [
        Pair(
            tensor._replace(dims=dims, length=cut),
            base._replace(dims=dims, length=cut),
            equal=False,
        )
    ]
    if rest := tensor.shape[0] - rows:
        added = (rest, *tensor.shape[1:])
        start, length = tensor.offset + cut, tensor.length - cut
        pairs.append(
            Pair(
                tensor._replace(dims=added, offset=start, length=length), None, equal=False
            )
        )
    return pairs


def _match_contents(
    old: memoryview,
    new: memoryview,
    old_tensors: Sequence[Tensor],
    new_tensors: Sequence[Tensor],
    found: dict[int, Pair],
) -> None:
    lengths = {t.length for n, t in enumerate(new_tensors) if n not in found}
    index = {_content(old, t): t for t in reversed(old_tensors) if t.length in lengths}
    known = {t.length for t in index.values()}
    for number, tensor in enumerate(new_tensors):
        if number in found or tensor.length not in known:
            continue
        base = index.get(_content(new, tensor))
        if base is not None:
            found[number] = Pair(tensor, base, equal=True)


def _content(data: memoryview, tensor: Tensor) -> tuple[int, bytes]:
    body = data[tensor.offset : tensor.offset + tensor.length]
    return tensor.length, hashlib.sha256(body).digest()


def _equal(old: memoryview, new: memoryview, base: Tensor, tensor: Tensor) -> bool:
    return same_bytes(
        old[base.offset : base.offset + base.length],
        new[tensor.offset : tensor.offset + tensor.length],
    )
