"""The order in which blocks are decoded and bytes are written, the same on both sides.

A patch has one stream of text (what is not tensor) and streams of elements, one for each
width and way of coding.
Each stream is cut into blocks, and a block stands in the patch where its first byte is
needed: a reader never seeks in the patch, and holds one block of each stream at most.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from .container import SYMBOLS, Header, Method, Op

TEXT_BLOCK: Final = 1 << 20
"""Bytes of text per block."""
BLOCK_BYTES: Final = 1 << 20
"""Bytes of elements per block."""
TEXT: Final = 0
"""The stream of text; see `Op.stream` for the others."""


class Span(NamedTuple):
    """Consecutive elements of one op, `size` from number `first`."""

    op: int
    first: int
    size: int


class Refill(NamedTuple):
    """Decode the next block of a stream: `size` bytes, for elements made of `spans`."""

    stream: int
    size: int
    spans: tuple[Span, ...]


class Emit(NamedTuple):
    """Write the next `length` bytes of a stream."""

    stream: int
    length: int


class Copy(NamedTuple):
    """Write bytes of the old file."""

    base: int
    length: int


class Cast(NamedTuple):
    """Write floats of the old file in another format: `length` bytes; kinds of floats."""

    base: int
    length: int
    old_kind: int
    new_kind: int


Step = Refill | Emit | Copy | Cast


def width_of(stream: int) -> int:
    """Return the bytes per element of a stream."""
    return stream & ~SYMBOLS


def block_elements(width: int) -> int:
    """Return the elements in a full block of that width."""
    return BLOCK_BYTES // width


def plan_steps(header: Header, ops: Sequence[Op]) -> Iterator[Step]:
    """Yield what to do, in order, from the first byte of the new file to the last."""
    text = header.new_size - sum(op.made for op in ops)
    streams = sorted({op.stream for op in ops if op.is_coded})
    refills = {stream: _cut_elements(ops, stream) for stream in streams}
    refills[TEXT] = _cut_text(text)
    ready = dict.fromkeys(refills, 0)

    def feed(stream: int, length: int) -> Iterator[Step]:
        while length:
            if not ready[stream]:
                refill = next(refills[stream])
                ready[stream] = refill.size
                yield refill
            part = min(length, ready[stream])
            ready[stream] -= part
            length -= part
            yield Emit(stream, part)

    for op in ops:
        text -= op.gap
        yield from feed(TEXT, op.gap)
        if op.is_coded:
            yield from feed(op.stream, op.length)
        elif op.method is Method.CAST:
            yield Cast(op.base, op.length, *op.params)
        elif op.made:
            yield Copy(op.base, op.length)
    yield from feed(TEXT, text)


def list_old_text(header: Header, ops: Iterable[Op]) -> list[tuple[int, int]]:
    """Return (offset, length) of the old ranges that no op reads or hides, in order."""
    taken = sorted((op.base, op.base + op.old_length) for op in ops if op.reads_old)
    gaps: list[tuple[int, int]] = []
    end = 0
    for start, stop in taken:
        if start > end:
            gaps.append((end, start - end))
        end = max(end, stop)
    if end < header.old_size:
        gaps.append((end, header.old_size - end))
    return gaps


def list_new_text(header: Header, ops: Iterable[Op]) -> list[tuple[int, int]]:
    """Return (offset, length) of the text of the new file, in order."""
    gaps: list[tuple[int, int]] = []
    at = 0
    for op in ops:
        if op.gap:
            gaps.append((at, op.gap))
        at += op.gap + op.made
    if at < header.new_size:
        gaps.append((at, header.new_size - at))
    return gaps


def _cut_text(text: int) -> Iterator[Refill]:
    while text:
        size = min(text, TEXT_BLOCK)
        text -= size
        yield Refill(TEXT, size, ())


def _cut_elements(ops: Sequence[Op], stream: int) -> Iterator[Refill]:
    width = width_of(stream)
    room = full = block_elements(width)
    spans: list[Span] = []
    for number, op in enumerate(ops):
        if not op.is_coded or op.stream != stream:
            continue
        count, first = op.length // width, 0
        while first < count:
            part = min(room, count - first)
            spans.append(Span(number, first, part))
            first += part
            room -= part
            if not room:
                yield Refill(stream, full * width, tuple(spans))
                room, spans = full, []
    if spans:
        yield Refill(stream, (full - room) * width, tuple(spans))
