"""From two files to the op table of a patch."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from .container import MAX_OPS, Method, Op
from .matching import Pair, match_tensors
from .planes import encode_planes
from .residual import subtract
from .tensors import Kind, Tensor, scan_model
from .wire import WireError

MIN_FRESH_BYTES: Final = 256
"""Shorter tensors without an old one compress better as text."""
SAMPLE: Final = 1 << 16
"""Elements on which methods compete."""


def plan_ops(old: memoryview, new: memoryview) -> list[Op]:
    """Return the ops that make `new`; none but copies where either is not a model.

    Args:
        old: The old file.
        new: The new file.
    """
    try:
        old_tensors, new_tensors = scan_model(old).tensors, scan_model(new).tensors
    except WireError:
        return _plan_general(old, new)
    pairs = match_tensors(old, new, old_tensors, new_tensors)
    rows = [_plan_tensor(old, new, pair) for pair in pairs]
    ops = _merge_copies(old, new, _keep_largest([row for row in rows if row is not None]))
    return ops + _hide_rest(old_tensors, ops)


def _plan_tensor(old: memoryview, new: memoryview, pair: Pair) -> tuple[Tensor, Op] | None:
    tensor, base = pair.new, pair.old
    width = tensor.element.width
    if base is not None and pair.equal:
        return tensor, Op(Method.COPY, 1, 0, tensor.length, base.offset, b"")
    if base is None:
        if tensor.length < MIN_FRESH_BYTES:
            return None
        return tensor, Op(Method.FRESH, width, 0, tensor.length, 0, b"")
    method = _choose_method(old, new, tensor, base)
    offset = 0 if method is Method.FRESH else base.offset
    return tensor, Op(method, width, 0, tensor.length, offset, b"")


def _choose_method(
    old: memoryview, new: memoryview, tensor: Tensor, base: Tensor
) -> Method:
    width = tensor.element.width
    count = min(tensor.length // width, SAMPLE)
    skip = (tensor.length // width - count) // 2 * width
    left = np.frombuffer(new, f"<u{width}", count, tensor.offset + skip)
    right = np.frombuffer(old, f"<u{width}", count, base.offset + skip)
    choices = [Method.SUBTRACT, Method.XOR]
    if tensor.length >= MIN_FRESH_BYTES or tensor.element.kind is Kind.FLOAT:
        choices.append(Method.FRESH)
    sizes = {
        method: len(encode_planes(subtract(left, right, method))) for method in choices
    }
    return min(choices, key=sizes.__getitem__)


def _keep_largest(rows: list[tuple[Tensor, Op]]) -> list[tuple[Tensor, Op]]:
    """Leave the smallest tensors to the text where the table cannot hold them all."""
    most = MAX_OPS // 2
    if len(rows) <= most:
        return rows
    kept = sorted(rows, key=lambda row: row[0].length, reverse=True)[:most]
    return sorted(kept, key=lambda row: row[0].offset)


def _merge_copies(
    old: memoryview, new: memoryview, rows: Sequence[tuple[Tensor, Op]]
) -> list[Op]:
    """Set the gaps; join copies across text that is the same in both files."""
    ops: list[Op] = []
    end = 0
    for tensor, plain in rows:
        op = plain._replace(gap=tensor.offset - end)
        text = new[end : tensor.offset]
        last_end = ops[-1].base + ops[-1].length if ops else 0
        joins = not ops or ops[-1].method is Method.COPY
        if op.method is Method.COPY and joins and old[last_end : op.base] == text:
            first = ops.pop() if ops else op._replace(gap=0, length=0, base=0)
            op = first._replace(length=first.length + op.gap + op.length)
        ops.append(op)
        end = tensor.offset + tensor.length
    if ops and ops[-1].method is Method.COPY:
        last = ops[-1]
        if old[last.base + last.length :] == new[end:]:
            ops[-1] = last._replace(length=last.length + len(new) - end)
    return ops


def _hide_rest(tensors: Sequence[Tensor], ops: Sequence[Op]) -> list[Op]:
    """Return ops that keep unused old tensors out of the old text."""
    used = sorted((op.base, op.base + op.length) for op in ops if op.reads_old)
    starts = np.array([start for start, _ in used], np.int64)
    hidden: list[Op] = []
    for tensor in tensors[: MAX_OPS // 2]:
        at = int(np.searchsorted(starts, tensor.offset, "right")) - 1
        if at < 0 or used[at][1] <= tensor.offset:
            hidden.append(Op(Method.HIDE, 1, 0, tensor.length, tensor.offset, b""))
    return hidden


def _plan_general(old: memoryview, new: memoryview) -> list[Op]:
    """Copy what both files begin and end with; the rest is text."""
    most = min(len(old), len(new))
    head = _common(old[:most], new[:most])
    rest = most - head
    back_old, back_new = old[len(old) - rest :], new[len(new) - rest :]
    tail = _common(back_old[::-1], back_new[::-1])
    ops: list[Op] = []
    if head:
        ops.append(Op(Method.COPY, 1, 0, head, 0, b""))
    if tail:
        gap = len(new) - head - tail
        ops.append(Op(Method.COPY, 1, gap, tail, len(old) - tail, b""))
    return ops


def _common(left: memoryview, right: memoryview) -> int:
    """Return how many bytes two views of one length have in common at their start."""
    step, at = 1 << 16, 0
    while at < len(left) and left[at : at + step] == right[at : at + step]:
        at += step
    if at >= len(left):
        return len(left)
    a = np.frombuffer(bytes(left[at : at + step]), np.uint8)
    b = np.frombuffer(bytes(right[at : at + step]), np.uint8)
    return at + int(np.argmax(a != b))
