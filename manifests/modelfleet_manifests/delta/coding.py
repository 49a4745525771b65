"""Blocks of symbols: sides, raw bits and rANS, and what goes from block to block."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from . import contexts as ctx
from .bits import BitReader, pack_bits
from .container import Op
from .floats import FORMATS
from .groups import read_groups
from .planes import decode_planes, encode_planes
from .prediction import Piece, Prediction, Side, predict, restore, subtract
from .rans import (
    Decoder,
    Layout,
    choose_layout,
    encode_symbols,
    slower_growth,
)
from .schedule import Refill
from .symbols import ALPHABET, ESCAPE, escape, join, split, widths_of
from .tables import Tables
from .varints import read_varint, write_varint
from .words import words_of

Array = NDArray[Any]
ReadOld = Callable[[int, int], bytes | memoryview]

SYMBOLS_CODER: Final = 1
_MANTISSAS: Final = {4: FORMATS[1].mantissa, 2: FORMATS[2].mantissa, 1: 1}
PIECE: Final = 1 << 16
"""Elements that are predicted at once."""


class SymbolStream:
    """What a stream remembers from block to block, the same on both sides."""

    def __init__(self, width: int, ops: Sequence[Op], read_old: ReadOld) -> None:
        """Start a stream of elements of `width` bytes.

        Raises:
            ValueError: There are no symbols of that width.
        """
        if width not in _MANTISSAS:
            raise ValueError(f"symbols of {width} bytes")
        self._width = width
        self._ops = ops
        self._read_old = read_old
        self._tables = Tables(ctx.lay_guesses())
        self._shifts = ctx.lay_shifts(_MANTISSAS[width])
        self._sides: dict[int, Side] = {}

    def encode(
        self, refill: Refill, new: Sequence[memoryview], sides: Mapping[int, Side]
    ) -> bytes:
        """Return the payload of a block.

        Args:
            refill: Which elements.
            new: The bytes of each span, in the order of `refill.spans`.
            sides: Side of each op, by its number.
        """
        fresh = [span.op for span in refill.spans if not span.first]
        self._sides = {span.op: sides[span.op] for span in refill.spans}
        words = np.concatenate([words_of(data, self._width) for data in new])
        lefts: list[Array] = []
        contexts: list[Array] = []
        at = 0
        for piece in self._pieces(refill):
            guess = predict(piece, self._sides[piece.number])
            left = subtract(words[at : at + piece.size], guess, piece.op.method)
            at += piece.size
            lefts.append(left if guess.loud is None else left[guess.loud])
            contexts.append(_loud_contexts(guess))
        head = _pack_sides([sides[number] for number in fresh])
        body = self._encode_residuals(lefts, contexts)
        return bytes([SYMBOLS_CODER]) + write_varint(len(head)) + head + body

    def decode(self, payload: bytes, refill: Refill) -> memoryview:
        """Return the bytes of a block.

        Raises:
            ValueError: The payload is not one this reader can decode.
        """
        if payload[:1] != bytes([SYMBOLS_CODER]):
            raise ValueError("unknown coder of symbols")
        length, at = read_varint(payload, 1)
        view = memoryview(payload)
        self._read_sides(view[at : at + length], refill)
        pairs = [
            (piece, predict(piece, self._sides[piece.number]))
            for piece in self._pieces(refill)
        ]
        contexts = np.concatenate([_loud_contexts(guess) for _, guess in pairs])
        symbols, raw = self._decode_symbols(view[at + length :], contexts)
        out = np.empty(refill.size // self._width, f"<u{self._width}")
        at = done = 0
        for piece, guess in pairs:
            count = piece.size if guess.loud is None else int(np.count_nonzero(guess.loud))
            end = at + count
            left = self._join(symbols[at:end], contexts[at:end], raw)
            if guess.loud is not None:
                spread = np.zeros(piece.size, left.dtype)
                spread[guess.loud] = left
                left = spread
            out[done : done + piece.size] = restore(left, guess, piece.op.method)
            at, done = end, done + piece.size
        raw.finish()
        return out.view(np.uint8).data

    def _pieces(self, refill: Refill) -> Iterator[Piece]:
        """Cut spans so that what is computed of them stays in the cache."""
        for span in refill.spans:
            op = self._ops[span.op]
            groups = read_groups(op)
            for first in range(span.first, span.first + span.size, PIECE):
                size = min(PIECE, span.first + span.size - first)
                old = None
                if op.reads_old:
                    start = op.base + first * self._width
                    old = words_of(self._read_old(start, size * self._width), self._width)
                    if old.size != size:
                        raise ValueError("the old file ended early")
                yield Piece(op, groups, first, size, old, span.op)

    def _read_sides(self, packed: memoryview, refill: Refill) -> None:
        fresh = [span.op for span in refill.spans if not span.first]
        sizes = [read_groups(self._ops[number]).total for number in fresh]
        codes, at = decode_planes(packed, sum(sizes), 2)
        factors, at = decode_planes(packed[at:], sum(sizes), 4)
        signed = (factors >> np.uint32(1)) ^ (np.uint32(0) - (factors & np.uint32(1)))
        self._sides = {
            span.op: self._sides[span.op] for span in refill.spans if span.op in self._sides
        }
        at = 0
        for number, size in zip(fresh, sizes, strict=True):
            end = at + size
            self._sides[number] = Side(codes[at:end], signed[at:end].view(np.int32))
            at = end

    def _encode_residuals(self, lefts: Sequence[Array], contexts: Sequence[Array]) -> bytes:
        bits = self._width * 8
        shifts = [self._shifts.take(part) for part in contexts]
        parts = [
            split(left, shift, bits) for left, shift in zip(lefts, shifts, strict=True)
        ]
        left, context = np.concatenate(lefts), np.concatenate(contexts)
        if not left.size:
            return b""
        symbols, fields, widths = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        codes = context.astype(np.int32)
        codes *= ALPHABET
        layout = choose_layout(
            self._tables.codes.take(codes[::16] + symbols[::16]), left.size
        )
        while True:
            found = self._try_layout(layout, codes, context, symbols.copy())
            if found is not None:
                break
            layout = slower_growth(layout)
        self._tables, lost, words = found
        escape(lost, left, fields, widths, bits)
        raw = pack_bits(fields, widths)
        head = bytes([layout.top, layout.bottom]) + write_varint(layout.steps)
        return head + write_varint(len(raw)) + raw + words

    def _try_layout(
        self, layout: Layout, codes: Array, contexts: Array, symbols: Array
    ) -> tuple[Tables, Array, bytes] | None:
        tables = self._tables.copy()
        found = np.empty(symbols.size, np.uint32)
        at = 0
        for end in _epochs(layout, tables):
            part = tables.codes.take(codes[at:end] + symbols[at:end])
            lost = (part < 1 << 16).nonzero()[0]
            if lost.size:
                symbols[at + lost] = ESCAPE
                part[lost] = tables.codes.take(codes[at + lost] + ESCAPE)
            found[at:end] = part
            tables.learn(contexts[at:end], symbols[at:end])
            at = end
        words = encode_symbols(layout, found)
        if words is None:
            return None
        return tables, (symbols == ESCAPE).nonzero()[0], words

    def _join(self, symbols: Array, contexts: Array, raw: BitReader) -> Array:
        shift = self._shifts.take(contexts)
        widths = widths_of(symbols, shift, self._width * 8)
        count = int(np.count_nonzero(widths))
        if not count:
            fields = None
        elif count * 2 > widths.size:
            fields = raw.take(widths)
        else:
            used = (widths > 0).nonzero()[0]
            fields = np.zeros(widths.size, np.uint32)
            fields[used] = raw.take(widths[used])
        left = join(symbols, fields, shift).view(np.uint32)
        return left.astype(f"<u{self._width}", copy=False)

    def _decode_symbols(self, body: memoryview, contexts: Array) -> tuple[Array, BitReader]:
        symbols = np.empty(contexts.size, np.uint8)
        if not contexts.size:
            if len(body):
                raise ValueError("residuals of no elements")
            return symbols, BitReader(b"")
        if len(body) < 4:  # noqa: PLR2004 - lanes, steps and a length
            raise ValueError("no lanes")
        steps, at = read_varint(body, 2)
        length, at = read_varint(body, at)
        layout = Layout(contexts.size, body[0], body[1], steps)
        decoder = Decoder(layout, body[at + length :])
        present = _list_contexts(contexts)
        done = 0
        for end in _epochs(layout, self._tables):
            decoder.run_to(end, self._tables.decoding(present), contexts, symbols)
            self._tables.learn(contexts[done:end], symbols[done:end])
            done = end
        decoder.finish()
        return symbols, BitReader(body[at : at + length])


def _epochs(layout: Layout, tables: Tables) -> Iterator[int]:
    """Yield where tables may change: ends of steps, when enough elements were seen."""
    at = 0
    for _, _, end in layout.slices():
        if end - at >= tables.missing() or end == layout.size:
            yield end
            at = end


def _loud_contexts(guess: Prediction) -> Array:
    return guess.contexts if guess.loud is None else guess.contexts[guess.loud]


def _list_contexts(contexts: Array) -> Array:
    """Return all contexts that are there, and perhaps some between them."""
    present: set[int] = set()
    for at in range(0, contexts.size, PIECE):
        part = contexts[at : at + PIECE]
        present.update(range(int(part.min()), int(part.max()) + 1))
    return np.array(sorted(present))


def _pack_sides(sides: Sequence[Side]) -> bytes:
    if not sides:
        codes, factors = np.empty(0, np.uint16), np.empty(0, np.int32)
    else:
        codes = np.concatenate([side.codes for side in sides])
        factors = np.concatenate([side.factors for side in sides])
    folded = (factors << 1) ^ (factors >> 31)
    return encode_planes(codes) + encode_planes(folded.view(np.uint32))
