"""Blocks of elements: spans of several tensors of one width, coded together."""

from collections.abc import Callable, Sequence

import numpy as np

from .container import Op
from .planes import decode_planes, encode_planes
from .residual import restore, subtract
from .schedule import Refill, Span
from .words import Words, words_of

ReadOld = Callable[[int, int], bytes | memoryview]

PLANES = 0


def encode_elements(
    refill: Refill, ops: Sequence[Op], new: Sequence[memoryview], read_old: ReadOld
) -> bytes:
    """Return the payload of a block.

    Args:
        refill: Which elements.
        ops: The op table.
        new: The bytes of each span, in the order of `refill.spans`.
        read_old: Reads (offset, length) of the old file.
    """
    parts = [
        subtract(
            words_of(data, refill.stream),
            old_words(span, ops, read_old),
            ops[span.op].method,
        )
        for span, data in zip(refill.spans, new, strict=True)
    ]
    return bytes([PLANES]) + encode_planes(np.concatenate(parts))


def decode_elements(
    payload: bytes, refill: Refill, ops: Sequence[Op], read_old: ReadOld
) -> memoryview:
    """Return the bytes of a block.

    Raises:
        ValueError: The payload is not one this reader can decode.
    """
    if payload[:1] != bytes([PLANES]):
        raise ValueError("unknown coder of elements")
    count = refill.size // refill.stream
    words, end = decode_planes(memoryview(payload)[1:], count, refill.stream)
    if end != len(payload) - 1:
        raise ValueError("bytes after the last plane")
    at = 0
    for span in refill.spans:
        part = words[at : at + span.size]
        old = old_words(span, ops, read_old)
        words[at : at + span.size] = restore(part, old, ops[span.op].method)
        at += span.size
    return words.view(np.uint8).data


def old_words(span: Span, ops: Sequence[Op], read_old: ReadOld) -> Words | None:
    """Return the old elements of a span, None for a tensor that has none."""
    op = ops[span.op]
    if not op.reads_old:
        return None
    data = read_old(op.base + span.first * op.width, span.size * op.width)
    return words_of(data, op.width)
