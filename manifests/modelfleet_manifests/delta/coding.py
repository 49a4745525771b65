"""Blocks of symbols: sides, residuals taken apart, and the coder that fits a block."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from . import contexts as ctx
from .bits import BitReader, pack_bits
from .books import BookReader, count_bits, encode_books, list_books
from .container import Op
from .floats import FORMATS
from .groups import read_groups
from .lanes import LaneCode, Lanes, keys_of, read_lane_head
from .prediction import Piece, Prediction, Side, predict, restore, subtract
from .schedule import Refill
from .sides import pack_sides, unpack_sides
from .symbols import ALPHABET, ESCAPE, Split, escape, join, lay_joints, split
from .varints import read_varint, write_varint
from .words import words_of

Array = NDArray[Any]
ReadOld = Callable[[int, int], bytes | memoryview]

LANES, BOOKS = 1, 2
"""Coders of symbols."""
_MANTISSAS: Final = {4: FORMATS[1].mantissa, 2: FORMATS[2].mantissa, 1: 1}
PIECE: Final = 1 << 16
"""Elements that are predicted at once."""
_FEW: Final = 0.15
"""Share of symbols that are not 0 below which lanes win without a look at them."""
_SPARSE: Final = 1.2
"""Bits per symbol below which books are not tried."""
_NO_CONTEXTS: Final = np.empty(0, np.uint8)
_HUFFMAN: Final = 1.011
"""Books take about this much more than the entropy, at least, and"""
_LEARNING: Final = 1.007
"""lanes about this much: neither is tried where the other is known to win."""
_WORTH: Final = 0.0022
"""Share of a block that lanes must save: they take several times as long to decode."""
_WORTH_MUCH: Final = 0.008
"""The same for words of two bytes, each of which takes as long as one of four,"""
_LARGE: Final = 8 << 20
"""in a file of so many bytes: with less it hardly matters how long it takes."""


class _Symbols(Protocol):
    """The symbols of a block, read in order."""

    def take(self, contexts: Array) -> Array: ...

    def finish(self) -> None: ...


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
        self._lanes = Lanes(width)
        self._shifts = ctx.lay_shifts(_MANTISSAS[width], width)
        self._joints = lay_joints(self._shifts, width)
        self._sides: dict[int, Side] = {}
        self._is_large = sum(op.length for op in ops) >= _LARGE
        much = self._is_large and width == 2  # noqa: PLR2004 - bytes
        self._worth = _WORTH_MUCH if much else _WORTH

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
        head = pack_sides([sides[number] for number in fresh])
        coder, body = self._encode_residuals(lefts, contexts)
        return bytes([coder]) + write_varint(len(head)) + head + body

    def decode(self, payload: bytes, refill: Refill) -> memoryview:
        """Return the bytes of a block.

        Raises:
            ValueError: The payload is not one this reader can decode.
        """
        if payload[:1] not in (bytes([LANES]), bytes([BOOKS])):
            raise ValueError("unknown coder of symbols")
        length, at = read_varint(payload, 1)
        view = memoryview(payload)
        self._read_sides(view[at : at + length], refill)
        body = view[at + length :]
        guesses: Iterator[tuple[Piece, Prediction]] = (
            (piece._replace(old=None), self._predict(piece))
            for piece in self._pieces(refill)
        )
        symbols: _Symbols
        if payload[0] == BOOKS:
            symbols, raw = self._open_books(body, refill.size // self._width)
        else:
            known, contexts = _gather(guesses)
            symbols, raw = self._open_lanes(body, contexts)
            guesses = iter(known)
        out = np.empty(refill.size // self._width, f"<u{self._width}")
        done = 0
        for piece, guess in guesses:
            end = done + piece.size
            out[done:end] = self._restore(piece, guess, symbols, raw)
            done = end
        symbols.finish()
        raw.finish()
        return out.view(np.uint8).data

    def _predict(self, piece: Piece) -> Prediction:
        """Return a prediction with the contexts of those elements only that are coded."""
        guess = predict(piece, self._sides[piece.number])
        return guess._replace(contexts=_loud_contexts(guess))

    def _restore(
        self, piece: Piece, guess: Prediction, symbols: _Symbols, raw: BitReader
    ) -> Array:
        left, widths = join(guess.contexts, symbols.take(guess.contexts), self._joints)
        raw.add(left, widths)
        if guess.loud is not None:
            spread = np.zeros(piece.size, left.dtype)
            spread[guess.loud] = left
            left = spread
        return restore(left, guess, piece.op.method)

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
        found = unpack_sides(packed, sizes)
        self._sides = {
            span.op: self._sides[span.op] for span in refill.spans if span.op in self._sides
        }
        self._sides.update(zip(fresh, found, strict=True))

    def _encode_residuals(
        self, lefts: Sequence[Array], contexts: Sequence[Array]
    ) -> tuple[int, bytes]:
        bits = self._width * 8
        shifts = [self._shifts.take(part) for part in contexts]
        parts = [
            split(left, shift, bits) for left, shift in zip(lefts, shifts, strict=True)
        ]
        left, context = np.concatenate(lefts), np.concatenate(contexts)
        if not left.size:
            return LANES, b""
        columns = Split(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        raw = pack_bits(columns.fields, columns.widths)
        code = None
        if np.count_nonzero(columns.symbols) < _FEW * left.size:
            code = self._lanes.encode(keys_of(context, columns.symbols), columns.symbols)
        else:
            books, code = self._compete(context, columns, left.size, len(raw))
            if code is None:
                return BOOKS, books + write_varint(len(raw)) + raw
        self._lanes.learn(code)
        if code.escaped.size != np.count_nonzero(columns.symbols == ESCAPE):
            escape(code.escaped, left, columns.fields, columns.widths, bits)
            raw = pack_bits(columns.fields, columns.widths)
        return LANES, code.head + write_varint(len(raw)) + raw + code.words

    def _compete(
        self, contexts: Array, columns: Split, size: int, raw: int
    ) -> tuple[bytes, LaneCode | None]:
        """Return books, and lanes where these are worth it; try what can win only."""
        keys = keys_of(contexts, columns.symbols)
        counts = np.bincount(keys, minlength=ctx.CONTEXTS * ALPHABET).reshape(-1, ALPHABET)
        floor = count_bits(counts) / 8
        worth = self._worth * (floor + raw)
        small, sparse = size < PIECE, floor * 8 < _SPARSE * size
        code, least = None, 0.0
        if sparse or small or floor * (_HUFFMAN - _LEARNING) > worth:
            code = self._lanes.encode(keys, columns.symbols)
            least = _size_of(code, columns, self._width * 8)
            if sparse or not (small or least > floor * _HUFFMAN - worth):
                return b"", code
        books = encode_books(
            list_books(counts, quick=self._is_large), contexts, columns.symbols
        )
        return books, None if len(books) - worth < least or code is None else code

    def _open_lanes(self, body: memoryview, contexts: Array) -> tuple["_Ready", BitReader]:
        if not contexts.size:
            if len(body):
                raise ValueError("residuals of no elements")
            return _Ready(np.empty(0, np.uint8)), BitReader(b"")
        head = read_lane_head(body)
        length, at = read_varint(body, head.end)
        symbols = self._lanes.decode(head, body[at + length :], contexts)
        return _Ready(symbols), BitReader(body[at : at + length], self._width * 8)

    def _open_books(self, body: memoryview, most: int) -> tuple[BookReader, BitReader]:
        books = BookReader(body, most)
        length, at = read_varint(body, books.end)
        if at + length != len(body):
            raise ValueError("raw bits of another length")
        return books, BitReader(body[at:], self._width * 8)


class _Ready:
    """Symbols that are all decoded."""

    def __init__(self, symbols: Array) -> None:
        self._symbols = symbols
        self._at = 0

    def take(self, contexts: Array) -> Array:
        self._at += contexts.size
        return self._symbols[self._at - contexts.size : self._at]

    def finish(self) -> None:
        """There are as many symbols as contexts."""


def _size_of(code: LaneCode, columns: Split, bits: int) -> float:
    """Return the bytes of symbols in lanes, with what their escapes cost more."""
    known = columns.widths.take(code.escaped).sum(dtype=np.int64)
    return len(code.words) + (bits * code.escaped.size - int(known)) / 8


def _gather(
    guesses: Iterator[tuple[Piece, Prediction]],
) -> tuple[list[tuple[Piece, Prediction]], Array]:
    """Return all predictions of a block, and the contexts of all elements only once."""
    known: list[tuple[Piece, Prediction]] = []
    parts: list[Array] = []
    for piece, guess in guesses:
        parts.append(guess.contexts)
        known.append((piece, guess._replace(contexts=_NO_CONTEXTS)))
    contexts = np.concatenate(parts)
    at = 0
    for number, (piece, guess) in enumerate(known):
        end = at + parts[number].size
        known[number] = piece, guess._replace(contexts=contexts[at:end])
        at = end
    return known, contexts


def _loud_contexts(guess: Prediction) -> Array:
    return guess.contexts if guess.loud is None else guess.contexts[guess.loud]
