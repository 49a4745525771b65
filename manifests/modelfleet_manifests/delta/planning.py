"""From two files to the op table of a patch."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from .choosing import Choice, choose
from .comparing import common_head, common_tail, same_bytes
from .container import MAX_OPS, Method, Op
from .floats import cast, is_finite
from .matching import Pair, match_tensors
from .packing import pack
from .prediction import Side
from .tensors import FORMAT_OF, Tensor, fit_tensors, scan_model
from .wire import WireError

MIN_FRESH_BYTES: Final = 256
"""Shorter tensors without an old one compress better as text."""


_DEAR: Final = 0.3
"""Share of its size above which a tensor is tried as text."""
_MUCH_LESS: Final = 0.7
_PIECE: Final = 1 << 15
_AROUND: Final = 1 << 18

SideTensors = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
"""Tensors of an old and a new file of external data."""


class Plan(NamedTuple):
    """How to make the new file.

    Attributes:
        ops: The op table.
        sides: What methods of symbols need per op, by its number.
        cost: Bytes that the blocks of elements will take, judged by samples.
    """

    ops: list[Op]
    sides: dict[int, Side]
    cost: float


class _Row(NamedTuple):
    tensor: Tensor
    choice: Choice


def plan_ops(old: memoryview, new: memoryview, sides: SideTensors | None = None) -> Plan:
    """Return the ops that make `new`; none but copies where either is not a model.

    Args:
        old: The old file.
        new: The new file.
        sides: Where the tensors of both lie, if they are external data of models.
    """
    try:
        if sides is None:
            old_tensors, new_tensors = scan_model(old).tensors, scan_model(new).tensors
        else:
            old_tensors, new_tensors = sides
        old_tensors = fit_tensors(old_tensors, len(old))
        new_tensors = fit_tensors(new_tensors, len(new))
    except WireError:
        return Plan(_plan_general(old, new), {}, 0.0)
    pairs = match_tensors(old, new, old_tensors, new_tensors)
    rows: list[_Row] = []
    shown: set[int] = set()  # offsets of old tensors that are text
    for pair in pairs:
        row = _plan_tensor(old, new, pair)
        if row is not None and pair.old is not None and _moved(old, new, pair, row):
            shown.add(pair.old.offset)
        elif row is not None:
            rows.append(row)
    plan = _merge_copies(old, new, _keep_largest(rows))
    hidden = [tensor for tensor in old_tensors if tensor.offset not in shown]
    plan.ops.extend(_hide_rest(hidden, plan.ops))
    return plan


def _moved(old: memoryview, new: memoryview, pair: Pair, row: _Row) -> bool:
    """Return whether a tensor is better off as text: its bytes are there, elsewhere."""
    tensor, base = pair.new, pair.old
    if base is None or row.choice.cost < _DEAR * tensor.length or tensor.length < _PIECE:
        return False
    middle = (tensor.length - _PIECE) // 2
    piece = new[tensor.offset + middle : tensor.offset + middle + _PIECE]
    start = base.offset + max(0, middle - _AROUND)
    end = min(base.offset + base.length, start + 2 * _AROUND)
    frame = pack(piece, level=2, base=bytes(old[start:end]))
    return len(frame) / _PIECE < _MUCH_LESS * row.choice.cost / tensor.length


def _plan_tensor(old: memoryview, new: memoryview, pair: Pair) -> _Row | None:
    tensor, base = pair.new, pair.old
    if base is not None and pair.equal:
        copy = Op(Method.COPY, 1, 0, tensor.length, base.offset, b"")
        return _Row(tensor, Choice(copy, None, 0.0))
    if base is not None and base.dtype != tensor.dtype:
        if row := _plan_cast(old, new, tensor, base):
            return row
        base = None
    if base is None and tensor.length < MIN_FRESH_BYTES:
        return None
    before = None if base is None else old[base.offset : base.offset + base.length]
    choice = choose(new[tensor.offset : tensor.offset + tensor.length], before, tensor)
    if base is not None and choice.op.reads_old:
        choice = choice._replace(op=choice.op._replace(base=base.offset))
    return _Row(tensor, choice)


def _plan_cast(
    old: memoryview, new: memoryview, tensor: Tensor, base: Tensor
) -> _Row | None:
    """Return how to make a tensor of the same numbers in another format; None if not so."""
    kinds = FORMAT_OF[base.dtype], FORMAT_OF[tensor.dtype]
    (width, _), (old_width, _) = tensor.element, base.element
    step = _AROUND
    for at in range(0, tensor.length // width, step):
        size = min(step, tensor.length // width - at)
        words = np.frombuffer(old, f"<u{old_width}", size, base.offset + at * old_width)
        if not is_finite(words, kinds[0]):
            return None  # which NaN comes out is not the same everywhere
        there = np.frombuffer(new, f"<u{width}", size, tensor.offset + at * width)
        if not np.array_equal(cast(words, *kinds), there):
            return None
    op = Op(Method.CAST, width, 0, tensor.length, base.offset, bytes(kinds))
    return _Row(tensor, Choice(op, None, 0.0))


def _keep_largest(rows: list[_Row]) -> list[_Row]:
    """Leave the smallest tensors to the text where the table cannot hold them all."""
    most = MAX_OPS // 2
    if len(rows) <= most:
        return rows
    kept = sorted(rows, key=lambda row: row.tensor.length, reverse=True)[:most]
    return sorted(kept, key=lambda row: row.tensor.offset)


def _merge_copies(old: memoryview, new: memoryview, rows: Sequence[_Row]) -> Plan:
    """Set the gaps; join copies across text that is the same in both files."""
    ops: list[Op] = []
    sides: dict[int, Side] = {}
    end = 0
    for tensor, (plain, side, _) in rows:
        op = plain._replace(gap=tensor.offset - end)
        text = new[end : tensor.offset]
        last_end = ops[-1].base + ops[-1].length if ops else 0
        joins = not ops or ops[-1].method is Method.COPY
        if op.method is Method.COPY and joins and same_bytes(old[last_end : op.base], text):
            first = ops.pop() if ops else op._replace(gap=0, length=0, base=0)
            op = first._replace(length=first.length + op.gap + op.length)
        if side is not None:
            sides[len(ops)] = side
        ops.append(op)
        end = tensor.offset + tensor.length
    if ops and ops[-1].method is Method.COPY:
        last = ops[-1]
        if same_bytes(old[last.base + last.length :], new[end:]):
            ops[-1] = last._replace(length=last.length + len(new) - end)
    return Plan(ops, sides, sum(row.choice.cost for row in rows))


def _hide_rest(tensors: Sequence[Tensor], ops: Sequence[Op]) -> list[Op]:
    """Return ops that keep unused old tensors out of the old text."""
    used = sorted((op.base, op.base + op.old_length) for op in ops if op.reads_old)
    starts = np.array([start for start, _ in used], np.int64)
    hidden: list[Op] = []
    for tensor in tensors[: MAX_OPS // 2]:
        at = int(np.searchsorted(starts, tensor.offset, "right")) - 1
        if at < 0 or used[at][1] <= tensor.offset:
            hidden.append(Op(Method.HIDE, 1, 0, tensor.length, tensor.offset, b""))
    return hidden


def _plan_general(old: memoryview, new: memoryview) -> list[Op]:
    """Copy what both files begin and end with; the rest is text."""
    head = common_head(old, new)
    tail = common_tail(old[head:], new[head:])
    ops: list[Op] = []
    if head:
        ops.append(Op(Method.COPY, 1, 0, head, 0, b""))
    if tail:
        gap = len(new) - head - tail
        ops.append(Op(Method.COPY, 1, gap, tail, len(old) - tail, b""))
    return ops
