"""Symbols of a block by books: the contexts of a book share one Huffman table of zstd.

Symbols of two bits or more lose less than one percent to Huffman codes, which zstd reads
many times faster than numpy can do arithmetic coding. A book of small symbols holds two of
them per byte, so that their codes are shorter than a bit.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .packing import pack_literals, unpack
from .symbols import ALPHABET, ESCAPE, SIDE
from .varints import read_varint, write_varint

Array = NDArray[Any]

MAX_BOOKS: Final = 12
_TABLE_BITS: Final = 400
"""What a book costs besides its symbols, about."""
_TIME_BITS: Final = 0.008
"""Bits per element that a book must save where the time to read it counts."""
SINGLE, PAIRS = 1, 2
_NEAR: Final = 15
"""Pairs: 0 to 14 are the symbols nearest to zero, 15 stands for any other."""
_PAIR_BITS: Final = 3.3
"""Symbols of fewer bits go in pairs."""


def _lay_near() -> tuple[Array, Array]:
    near = [n // 2 + (SIDE if n % 2 else 0) for n in range(_NEAR)]
    codes = np.full(ALPHABET, _NEAR, np.uint8)
    codes[near] = np.arange(_NEAR)
    pairs = np.arange(256)
    symbols = np.array([*near, ESCAPE + 1], np.uint8)
    return codes, np.stack([symbols[pairs & 15], symbols[pairs >> 4]], 1).view("<u2")[:, 0]


_NEAR_OF, _PAIR_OF = _lay_near()


class Books(NamedTuple):
    """Which book each context is in; `of[context]` is of use where the context occurs."""

    of: Array
    total: int


def list_books(counts: Array, *, quick: bool = False) -> Books:
    """Return books that make few bits of symbols that occur so often.

    Args:
        counts: Per context and symbol, int64.
        quick: Rather fewer books, which take less time to read.
    """
    used = np.flatnonzero(counts.any(1))
    rows = counts[used].astype(np.float64)
    order = np.argsort(_bits(rows) / rows.sum(1), kind="stable")
    groups = [[int(used[number])] for number in order]
    rows = rows[order]
    bits = _bits(rows)
    least = max(_TABLE_BITS, _TIME_BITS * int(rows.sum()) if quick else 0)
    while len(groups) > 1:
        joined = _bits(rows[:-1] + rows[1:])
        price = joined - bits[:-1] - bits[1:]
        at = int(price.argmin())
        if price[at] > least and len(groups) <= MAX_BOOKS:
            break
        groups[at] += groups.pop(at + 1)
        rows[at] += rows[at + 1]
        bits[at] = joined[at]
        rows, bits = np.delete(rows, at + 1, 0), np.delete(bits, at + 1)
    of = np.zeros(len(counts), np.uint8)
    for number, group in enumerate(groups):
        of[group] = number
    return Books(of, len(groups))


def count_bits(counts: Array) -> float:
    """Return the entropy of symbols that occur so often in each context, in bits."""
    return float(_bits(counts[counts.any(1)].astype(np.float64)).sum())


def encode_books(books: Books, contexts: Array, symbols: Array) -> bytes:
    """Return the symbols of a block, at least one.

    Args:
        books: From the counts of this block.
        contexts: Per element, uint8.
        symbols: Per element, uint8.
    """
    first, last = int(contexts.min()), int(contexts.max())
    out = [bytes([first, last - first]), books.of[first : last + 1].tobytes()]
    out.append(bytes([books.total]))
    numbers = books.of.take(contexts)
    sorted_symbols = symbols.take(np.argsort(numbers, kind="stable"))
    at = 0
    for size in np.bincount(numbers, minlength=books.total):
        out.append(_encode_book(sorted_symbols[at : at + size]))
        at += size
    return b"".join(out)


class BookReader:
    """Reads what `encode_books` wrote, some elements at a time."""

    def __init__(self, data: memoryview, most: int) -> None:
        """Open the books of a block of `most` elements at most.

        Raises:
            ValueError: The data is damaged.
        """
        if len(data) < 2 or len(data) < 4 + data[1]:  # noqa: PLR2004 - an empty map
            raise ValueError("no books")
        first, size = data[0], data[1] + 1
        self._of = np.zeros(256, np.uint8)
        if first + size > self._of.size:
            raise ValueError("too many contexts")
        self._of[first : first + size] = np.frombuffer(data[2 : 2 + size], np.uint8)
        count, self.end = data[2 + size], 3 + size
        if not 1 <= count <= MAX_BOOKS:
            raise ValueError(f"{count} books")
        self._books: list[Array] = []
        for _ in range(count):
            book, self.end = _decode_book(data, self.end, most)
            self._books.append(book)
            most -= book.size
        self._at = [0] * count

    def take(self, contexts: Array) -> Array:
        """Return the symbols of the next elements, uint8.

        Raises:
            ValueError: There are not as many.
        """
        symbols = np.empty(contexts.size, np.uint8)
        numbers = self._of.take(contexts)
        found = 0
        for number, book in enumerate(self._books):
            places = (numbers == number).nonzero()[0]
            at = self._at[number]
            end = self._at[number] = at + places.size
            if end > book.size:
                raise ValueError("too few symbols")
            symbols[places] = book[at:end]
            found += places.size
        if found != symbols.size:
            raise ValueError("a context without a book")
        return symbols

    def finish(self) -> None:
        """Raise ValueError unless all symbols were read."""
        if self._at != [book.size for book in self._books]:
            raise ValueError("symbols left over")


def _bits(rows: Array) -> Array:
    logs = np.log2(np.maximum(rows, 1))
    totals = rows.sum(1)
    bits: Array = totals * np.log2(np.maximum(totals, 1)) - (rows * logs).sum(1)
    return bits


def _encode_book(symbols: Array) -> bytes:
    """Return mode, number of symbols, and one or two fields with their lengths."""
    counts = np.bincount(symbols, minlength=ALPHABET)
    fields: Sequence[Array]
    if _bits(counts[None].astype(np.float64))[0] < _PAIR_BITS * symbols.size:
        codes = _NEAR_OF.take(symbols)
        rest = symbols[codes == _NEAR]
        if symbols.size % 2:
            codes = np.append(codes, np.uint8(0))
        mode, fields = PAIRS, (codes[::2] | codes[1::2] << np.uint8(4), rest)
    else:
        mode, fields = SINGLE, (symbols,)
    out = [bytes([mode]), write_varint(symbols.size)]
    for field in fields:
        frame = pack_literals(field.tobytes())
        packed = frame if len(frame) < field.size else field.tobytes()
        out += [write_varint(field.size), write_varint(len(packed)), packed]
    return b"".join(out)


def _decode_book(data: memoryview, at: int, most: int) -> tuple[Array, int]:
    if at >= len(data):
        raise ValueError("too few books")
    mode = data[at]
    size, at = read_varint(data, at + 1)
    if size > most:
        raise ValueError("more symbols than elements")
    first, at = _decode_field(data, at, size)
    if mode == SINGLE:
        if first.size != size or first.max(initial=0) > ESCAPE:
            raise ValueError("a book of another length or alphabet")
        return first, at
    if mode != PAIRS or first.size != (size + 1) // 2:
        raise ValueError("unknown kind of book")
    symbols = _PAIR_OF.take(first).view(np.uint8)[:size]
    rest, at = _decode_field(data, at, size)
    far = (symbols > ESCAPE).nonzero()[0]
    if far.size != rest.size or rest.max(initial=0) > ESCAPE:
        raise ValueError("pairs do not fit their rest")
    symbols[far] = rest
    return symbols, at


def _decode_field(data: memoryview, at: int, most: int) -> tuple[Array, int]:
    count, at = read_varint(data, at)
    length, at = read_varint(data, at)
    field = data[at : at + length]
    if count > most or len(field) != length:
        raise ValueError("symbols longer than their block")
    raw = field if length == count else unpack(field, count)
    return np.frombuffer(raw, np.uint8), at + length
