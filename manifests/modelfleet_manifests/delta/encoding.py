"""Make a patch from two files."""

import hashlib
from collections.abc import Iterator
from typing import Final

from .authoring import TextAuthor
from .coding import SymbolStream
from .container import SYMBOLS, Header, Op, pack_block, pack_head
from .elements import encode_elements
from .memory import keep_freed_memory
from .planning import Plan, SideTensors, plan_ops
from .schedule import TEXT, Refill, plan_steps, width_of

Buffer = bytes | bytearray | memoryview

_TEXT_STRIDE: Final = 8
"""An estimate encodes one block of text in so many, beyond the first few."""


def encode(old: Buffer, new: Buffer) -> bytes:
    """Return the patch that turns `old` into `new`; see `encode_chunks`."""
    return b"".join(encode_chunks(old, new))


def encode_chunks(
    old: Buffer, new: Buffer, *, sides: SideTensors | None = None
) -> Iterator[bytes]:
    """Yield the patch that turns `old` into `new`, head first, then block by block.

    Args:
        old: The old file; a `memoryview` of a mapping keeps it out of memory.
        new: The new file, likewise.
        sides: For external data: where tensors lie in the old and in the new file, from
            `scan_side_files` of their models.
    """
    keep_freed_memory()
    old_view, new_view = memoryview(old).cast("B"), memoryview(new).cast("B")
    header = Header(
        len(old_view),
        len(new_view),
        hashlib.sha256(old_view).digest(),
        hashlib.sha256(new_view).digest(),
    )
    plan = plan_ops(old_view, new_view, sides)
    yield pack_head(header, plan.ops)
    for payload in _Blocks(old_view, new_view, header, plan):
        yield pack_block(payload)


def estimate(old: Buffer, new: Buffer, *, sides: SideTensors | None = None) -> int:
    """Return about how many bytes the patch will have, in a fraction of the time.

    Tensors are judged by samples, text by some of its blocks; usually within a few percent.

    Args:
        old: The old file.
        new: The new file.
        sides: As for `encode_chunks`.
    """
    keep_freed_memory()
    old_view, new_view = memoryview(old).cast("B"), memoryview(new).cast("B")
    plan = plan_ops(old_view, new_view, sides)
    header = Header(len(old_view), len(new_view), bytes(32), bytes(32))
    author = TextAuthor(old_view, new_view, header, plan.ops)
    size = len(pack_head(header, plan.ops)) + plan.cost
    number = last = 0
    for step in plan_steps(header, plan.ops):
        if not isinstance(step, Refill) or step.stream != TEXT:
            continue
        if number < _TEXT_STRIDE or number % _TEXT_STRIDE == 0:
            last = len(author.encode(step.size))
        else:
            author.skip(step.size)
        size += last
        number += 1
    return round(size)


class _Blocks:
    """The payloads of a patch, in order."""

    def __init__(
        self, old: memoryview, new: memoryview, header: Header, plan: Plan
    ) -> None:
        self._old, self._new, self._header, self._plan = old, new, header, plan
        self._text = TextAuthor(old, new, header, plan.ops)
        self._offsets = _place(plan.ops)
        self._streams: dict[int, SymbolStream] = {}

    def __iter__(self) -> Iterator[bytes]:
        for step in plan_steps(self._header, self._plan.ops):
            if isinstance(step, Refill):
                yield self._encode(step)

    def _encode(self, step: Refill) -> bytes:
        ops = self._plan.ops
        if step.stream == TEXT:
            return self._text.encode(step.size)
        if step.stream & SYMBOLS:
            stream = self._stream(step.stream)
            return stream.encode(step, self._spans(step), self._plan.sides)
        return encode_elements(step, ops, self._spans(step), self._read_old)

    def _stream(self, number: int) -> SymbolStream:
        if number not in self._streams:
            width = width_of(number)
            self._streams[number] = SymbolStream(width, self._plan.ops, self._read_old)
        return self._streams[number]

    def _spans(self, step: Refill) -> list[memoryview]:
        out: list[memoryview] = []
        width = width_of(step.stream)
        for span in step.spans:
            start = self._offsets[span.op] + span.first * width
            out.append(self._new[start : start + span.size * width])
        return out

    def _read_old(self, offset: int, length: int) -> memoryview:
        return self._old[offset : offset + length]


def _place(ops: list[Op]) -> list[int]:
    """Return the offset in the new file of what each op makes."""
    offsets: list[int] = []
    at = 0
    for op in ops:
        offsets.append(at + op.gap)
        at += op.gap + op.made
    return offsets
