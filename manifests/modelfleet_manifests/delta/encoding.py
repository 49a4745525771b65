"""Make a patch from two files."""

import hashlib
from collections.abc import Iterator
from typing import Final

from .anchors import Anchors
from .coding import SymbolStream
from .container import SYMBOLS, Header, Op, pack_block, pack_head
from .elements import encode_elements
from .planning import Plan, SideTensors, plan_ops
from .schedule import TEXT, Copy, Emit, Refill, list_old_text, plan_steps, width_of
from .text import MAX_WINDOW, MAX_WINDOWS, OldText, encode_text

Buffer = bytes | bytearray | memoryview

_TEXT_LEVELS: Final = ((4 << 20, 19), (32 << 20, 12))
"""(bytes of text up to which, zstd level): high levels only while they are cheap."""


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


class _Blocks:
    """The payloads of a patch, in order."""

    def __init__(
        self, old: memoryview, new: memoryview, header: Header, plan: Plan
    ) -> None:
        ops = plan.ops
        self._old, self._new, self._header, self._ops = old, new, header, ops
        self._sides = plan.sides
        self._anchors: Anchors | None = None
        self._last = 0  # where the block before ended in the old text
        self._streams: dict[int, SymbolStream] = {}
        self._offsets = _place(ops)
        self._gaps = _gaps_of(header, ops)
        self._text_size = sum(length for _, length in self._gaps)
        self._level = next((lv for size, lv in _TEXT_LEVELS if self._text_size <= size), 3)

    def __iter__(self) -> Iterator[bytes]:
        old_text = OldText(self._read_old, list_old_text(self._header, self._ops))
        text_done = 0
        for step in plan_steps(self._header, self._ops):
            match step:
                case Copy() | Emit():
                    continue
                case Refill() if step.stream == TEXT:
                    data = OldText(self._read_new, self._gaps).window(text_done, step.size)
                    starts = self._list_windows(data, old_text)
                    yield encode_text(data, old_text, starts, level=self._level)
                    text_done += step.size
                case Refill() if step.stream & SYMBOLS:
                    stream = self._stream(step.stream)
                    yield stream.encode(step, self._spans(step), self._sides)
                case Refill():
                    spans = self._spans(step)
                    yield encode_elements(step, self._ops, spans, self._read_old)

    def _stream(self, number: int) -> SymbolStream:
        if number not in self._streams:
            width = width_of(number)
            self._streams[number] = SymbolStream(width, self._ops, self._read_old)
        return self._streams[number]

    def _spans(self, step: Refill) -> list[memoryview]:
        out: list[memoryview] = []
        width = width_of(step.stream)
        for span in step.spans:
            start = self._offsets[span.op] + span.first * width
            out.append(self._new[start : start + span.size * width])
        return out

    def _list_windows(self, data: bytes, old_text: OldText) -> list[int]:
        """Return where windows start in which the like of `data` most likely is."""
        if old_text.size <= MAX_WINDOW:
            return [0]
        if self._anchors is None:
            self._anchors = Anchors(old_text.window, old_text.size)
        found = self._anchors.locate(data, MAX_WINDOWS) or [self._last]
        self._last = found[0] + len(data)
        slack = max(0, MAX_WINDOW // len(found) - len(data)) // 2
        return [start - slack for start in found]

    def _read_old(self, offset: int, length: int) -> memoryview:
        return self._old[offset : offset + length]

    def _read_new(self, offset: int, length: int) -> memoryview:
        return self._new[offset : offset + length]


def _place(ops: list[Op]) -> list[int]:
    """Return the offset in the new file of what each op makes."""
    offsets: list[int] = []
    at = 0
    for op in ops:
        offsets.append(at + op.gap)
        at += op.gap + op.made
    return offsets


def _gaps_of(header: Header, ops: list[Op]) -> list[tuple[int, int]]:
    """Return (offset, length) of the text of the new file."""
    gaps: list[tuple[int, int]] = []
    at = 0
    for op in ops:
        if op.gap:
            gaps.append((at, op.gap))
        at += op.gap + op.made
    if at < header.new_size:
        gaps.append((at, header.new_size - at))
    return gaps
