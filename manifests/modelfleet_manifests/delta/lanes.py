"""Symbols of a block by rANS, with tables that both sides learn from block to block."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import contexts as ctx
from .rans import (
    Decoder,
    Layout,
    choose_layout,
    encode_symbols,
    slower_growth,
)
from .symbols import ALPHABET, ESCAPE
from .tables import Tables
from .varints import read_varint, write_varint

Array = NDArray[Any]

_RUN: Final = 1 << 16
"""Elements learnt from at once by a reader, whose memory is small; a multiple of four."""
_SHOWN: Final = np.uint32(1 << 16)
"""The code of a symbol is at least this, unless its frequency is 0."""


class LaneHead(NamedTuple):
    """What a block says of its lanes, and where that ends."""

    top: int
    bottom: int
    steps: int
    end: int


class Lanes:
    """The tables of a stream, and how blocks are coded by them."""

    def __init__(self, width: int) -> None:
        """Start from the guesses for words of `width` bytes."""
        self._tables = Tables(ctx.lay_guesses(width))

    def encode(self, keys: Array, symbols: Array) -> "LaneCode":
        """Return a block; `learn` from it if it is the one that is sent.

        Args:
            keys: Per element, from `keys_of`.
            symbols: Per element, uint8.
        """
        known = (symbols == ESCAPE).nonzero()[0]
        layout = choose_layout(self._tables.codes.take(keys[::16]), keys.size)
        while True:
            found = self._try(layout, keys, known)
            if found is not None:
                return found
            layout = slower_growth(layout)

    def learn(self, code: "LaneCode") -> None:
        """Take over what a block taught."""
        self._tables = code.tables

    def decode(self, head: LaneHead, body: memoryview, contexts: Array) -> Array:
        """Return the symbols of a block, uint8.

        Raises:
            ValueError: The data does not fit.
        """
        symbols = np.empty(contexts.size, np.uint8)
        layout = Layout(contexts.size, head.top, head.bottom, head.steps)
        decoder = Decoder(layout, body)
        present = np.arange(int(contexts.min()), int(contexts.max()) + 1)
        done = 0
        for end in _epochs(layout, self._tables):
            decoder.run_to(end, self._tables.decoding(present), contexts, symbols)
            self._learn(contexts[done:end], symbols[done:end])
            done = end
        decoder.finish()
        return symbols

    def _learn(self, contexts: Array, symbols: Array) -> None:
        step = self._tables.stride
        runs = (slice(at, at + _RUN, step) for at in range(0, symbols.size, _RUN))
        keys = (keys_of(contexts[run], symbols[run]) for run in runs)
        self._tables.learn(keys, symbols.size)

    def _try(self, layout: Layout, keys: Array, known: Array) -> "LaneCode | None":
        tables = self._tables.copy()
        found = np.empty(keys.size, np.uint32)
        escaped = [known]
        at = 0
        for end in _epochs(layout, tables):
            some, part = keys[at:end], found[at:end]
            tables.codes.take(some, out=part, mode="clip")
            lost = (part < _SHOWN).nonzero()[0]
            if lost.size:
                some = some.copy()
                some[lost] += ESCAPE - some[lost] % ALPHABET
                part[lost] = tables.codes.take(some[lost])
                escaped.append(at + lost)
            tables.learn((some[:: tables.stride],), end - at)
            at = end
        words = encode_symbols(layout, found)
        if words is None:
            return None
        head = bytes([layout.top, layout.bottom]) + write_varint(layout.steps)
        return LaneCode(head, words, np.concatenate(escaped), tables)


class LaneCode(NamedTuple):
    """A coded block.

    Attributes:
        head: What `read_lane_head` reads.
        words: States and words.
        escaped: Elements that went as ESCAPE, by their numbers.
        tables: What the stream knows after this block.
    """

    head: bytes
    words: bytes
    escaped: Array
    tables: Tables


def keys_of(contexts: Array, symbols: Array) -> Array:
    """Return context * ALPHABET + symbol per element, intp."""
    keys = contexts.astype(np.intp)
    keys *= ALPHABET
    keys += symbols
    return keys


def read_lane_head(data: memoryview) -> LaneHead:
    """Return what stands before the raw bits of a block.

    Raises:
        ValueError: Nothing does.
    """
    if len(data) < 4:  # noqa: PLR2004 - lanes, steps and a length
        raise ValueError("no lanes")
    steps, end = read_varint(data, 2)
    return LaneHead(data[0], data[1], steps, end)


def _epochs(layout: Layout, tables: Tables) -> Iterator[int]:
    """Yield where tables may change: ends of steps, when enough elements were seen."""
    at = 0
    while at < layout.size:
        at = layout.step_end(min(layout.size, at + tables.missing()))
        yield at
