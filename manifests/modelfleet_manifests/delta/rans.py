"""Range asymmetric numeral systems in many lanes at once, so that numpy is fast enough.

A state is 32 bits, of which 16 leave at a time; frequencies add up to 2^13. Step by step,
lane i takes the i-th of the next elements. Lanes are not free: each carries a state. So the
number of lanes halves towards the end of a block. A lane that retires gives its 16 low bits
back as the next word to be read, and the lanes left at the end are few.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bits import pack_bits, unpack_bits

PROB_BITS: Final = 13
_TOTAL: Final = 1 << PROB_BITS
_LOW: Final = 1 << 16
"""States are at least this between steps, and below 2^32."""

_MAX_TOP: Final = 11
_GROWTH: Final = 25
"""Bits that go into a lane before it has given birth to another: 16, and 8 to fill up."""
_UNEVEN: Final = 1.5
"""Rare symbols come in bursts: lanes of few bits get so much more time to grow."""
_MAX_BOTTOM: Final = 6
_MIN_LANES: Final = 2
"""Lanes of the smallest block, log2."""
_BYTES_PER_LANE: Final = 40
"""A lane costs about half a byte."""
_RUN: Final = 1 << 15
"""Elements decoded between two looks at their symbols: these stay in the cache."""
_FEW_BITS: Final = 1.5
"""Symbols of fewer bits get twice the lanes: there are more of them to get through;"""
_HARDLY_ANY: Final = 0.4
"""and below this twice as many again."""

Array = NDArray[Any]


# numpy is quicker with a scalar of the array's own type
_WHOLE: Final = np.uint32(_TOTAL)
_SLOT_MASK: Final = np.uint32(_TOTAL - 1)
_SHIFT: Final = np.uint32(PROB_BITS)
FREQUENCY: Final = np.uint32(19)
SYMBOL: Final = np.uint32(13)
_SYMBOLS: Final = np.uint32(63)
_FULL: Final = np.uint32(32 - PROB_BITS)
_LIMIT: Final = np.uint32(_LOW)
_WORD: Final = np.uint32(16)
_WORD_MASK: Final = np.uint32(0xFFFF)


class DecodingTables(NamedTuple):
    """Tables of some contexts.

    Attributes:
        places: Per context where its table starts in `entries`, int64.
        entries: `frequency << 19 | symbol << 13 | slot - start` per slot, uint32.
    """

    places: Array
    entries: Array


class Layout(NamedTuple):
    """How `size` elements are dealt to lanes.

    Attributes:
        size: Elements.
        top: Lanes at the start, as a power of two (log2).
        bottom: Lanes at the end, likewise.
        steps: Steps of each number of lanes below the top.
    """

    size: int
    top: int
    bottom: int
    steps: int

    def phases(self) -> Iterator[tuple[int, int, int]]:
        """Yield (lanes, first element, end), in the order of decoding."""
        tail = self.steps * ((1 << self.top) - (1 << self.bottom))
        at = self.size - tail
        yield 1 << self.top, 0, at
        for power in range(self.top - 1, self.bottom - 1, -1):
            end = at + (self.steps << power)
            yield 1 << power, at, end
            at = end

    def slices(self) -> Iterator[tuple[int, int, int]]:
        """Yield (lanes, first element, end) of every step, in the order of decoding."""
        for lanes, start, end in self.phases():
            for at in range(start, end, lanes):
                yield lanes, at, min(at + lanes, end)

    def step_end(self, least: int) -> int:
        """Return the first end of a step at or after element `least`, 1 to `size`."""
        for lanes, start, end in self.phases():
            if least <= end:
                return min(end, start - (start - least) // lanes * lanes)
        return self.size

    @property
    def is_possible(self) -> bool:
        """Return whether the retiring lanes have enough elements."""
        tail = self.steps * ((1 << self.top) - (1 << self.bottom))
        return 0 <= self.bottom <= self.top <= 14 and 0 <= tail <= self.size  # noqa: PLR2004


def choose_layout(codes: Array, size: int) -> Layout:
    """Return as many lanes as cost one percent or two, with steps that let them grow.

    Args:
        codes: As for `encode_symbols`, of some of the elements.
        size: All elements.
    """
    frequencies = np.maximum(codes >> 16, 1).astype(np.float32)
    bits = max(0.02, float(PROB_BITS - np.log2(frequencies).mean()))
    spent = int(size * bits / 8)
    lanes = spent // _BYTES_PER_LANE << (bits < _FEW_BITS) + (bits < _HARDLY_ANY)
    top = min(_MAX_TOP, max(_MIN_LANES, lanes.bit_length() - 1))
    bottom = min(top, _MIN_LANES + (spent >> 12).bit_length() // 2 * 2, _MAX_BOTTOM)
    growth = _GROWTH * (_UNEVEN if bits < _FEW_BITS else 1)
    layout = Layout(size, top, bottom, int(growth / bits) + 2)
    while not layout.is_possible:
        layout = layout._replace(top=layout.top - 1)
    return layout


def slower_growth(layout: Layout) -> Layout:
    """Return a layout for elements that do not let lanes grow as fast as `layout`."""
    slower = layout._replace(steps=layout.steps + layout.steps // 4 + 1)
    if not slower.is_possible:
        slower = layout._replace(top=layout.top - 1)
    return slower


def encode_symbols(layout: Layout, codes: Array) -> bytes | None:
    """Return states and words of the elements with these frequencies.

    Args:
        layout: How to deal them.
        codes: Per element its frequency, 1 to 8191 of 2^13, times 2^16, plus the sum of the
            frequencies of lower symbols; uint32.

    Returns:
        None if lanes cannot grow as fast as `layout` says.
    """
    state = np.full(1 << layout.bottom, _LOW, np.uint32)
    words: list[Array] = []  # in reverse order of reading
    freqs = codes >> _WORD
    limits, rests, starts = freqs << _FULL, _WHOLE - freqs, codes & _WORD_MASK
    for lanes, start, end in reversed(list(layout.slices())):
        if lanes > state.size:
            born = _take_back(words, lanes - state.size)
            if born is None:
                return None
            state = np.concatenate([state, born | _LIMIT])
        part = state[: end - start]
        full = (part >= limits[start:end]).nonzero()[0]
        leaving = part[full]
        words.append(leaving & _WORD_MASK)
        part[full] = leaving >> _WORD
        # the state becomes quotient * 2^13 + start + remainder
        quotient = part // freqs[start:end]
        quotient *= rests[start:end]
        part += quotient
        part += starts[start:end]
    read = np.concatenate(words[::-1]).astype("<u2")
    return _pack_states(state) + read.tobytes()


def _take_back(words: list[Array], count: int) -> Array | None:
    """Take the words that will be read next, in reading order."""
    taken: list[Array] = []
    while count:
        if not words:
            return None
        part = words.pop()
        if part.size > count:
            words.append(part[count:])
            part = part[:count]
        taken.append(part)
        count -= part.size
    return np.concatenate(taken)


def _pack_states(state: Array) -> bytes:
    """Return the states: 4 bits for the length of each, then its bits below the highest."""
    sizes = np.frexp(state.astype(np.float64))[1] - 17
    low = (state & np.uint32(0xFFFF)).astype(np.uint16)
    high = (state >> np.uint32(16)) - (np.uint32(1) << sizes.astype(np.uint32))
    nibbles = pack_bits(sizes, np.full(state.size, 4))
    return nibbles + low.tobytes() + pack_bits(high, sizes)


class Decoder:
    """Decodes one block; the tables may change between steps."""

    def __init__(self, layout: Layout, data: memoryview) -> None:
        """Read the states.

        Raises:
            ValueError: Layout or data are impossible.
        """
        if not layout.is_possible:
            raise ValueError("impossible lanes")
        lanes = 1 << layout.top
        head = 4 * -(-lanes // 8)
        sizes = unpack_bits(data[:head], np.full(lanes, 4, np.uint8))
        middle = head + 2 * lanes
        end = middle + 4 * -(-int(sizes.sum()) // 32)
        if end > len(data) or (len(data) - end) % 2:
            raise ValueError("states and words have another length")
        low = np.frombuffer(data[head:middle], "<u2").astype(np.uint32)
        high = unpack_bits(data[middle:end], sizes.astype(np.uint8)) + (
            np.uint32(1) << sizes
        )
        self._state = (high << np.uint32(16)) | low
        self._words = np.frombuffer(data[end:], "<u2").astype(np.uint32)
        self._at = 0
        self._spare = np.empty(lanes, np.uint32)
        self._layout = layout
        self._slices = layout.slices()
        self._done = 0

    def run_to(
        self, end: int, tables: DecodingTables, contexts: Array, symbols: Array
    ) -> None:
        """Decode up to element `end`, which is the end of a step.

        Args:
            end: Elements of the block that are decoded then.
            tables: The tables in force.
            contexts: Context of each element of the block, uint8.
            symbols: Receives the symbols, uint8.

        Raises:
            ValueError: The data does not fit.
        """
        while self._done < end:
            start = self._done
            stop = self._layout.step_end(min(end, start + _RUN))
            slots = tables.places.take(contexts[start:stop])
            found = np.empty(stop - start, np.uint32)
            self._run(start, stop, tables.entries, slots, found)
            found >>= SYMBOL
            found &= _SYMBOLS
            symbols[start:stop] = found
            self._done = stop

    def _run(
        self, start: int, stop: int, entries: Array, slots: Array, found: Array
    ) -> None:
        """Decode some steps; `found` receives table entries, which name their symbols."""
        state, spare, words, at = self._state, self._spare, self._words, self._at
        for lanes, first, last in self._slices:
            if lanes < self._state.size:
                self._at = at
                self._retire(lanes)
                state, spare = self._state, self._spare
                words, at = self._words, 0
            if last - first != state.size:
                state, spare = self._state[: last - first], self._spare[: last - first]
            slot = slots[first - start : last - start]
            entry = found[first - start : last - start]
            np.bitwise_and(state, _SLOT_MASK, out=spare)
            slot += spare
            entries.take(slot, out=entry, mode="clip")
            state >>= _SHIFT
            np.right_shift(entry, FREQUENCY, out=spare)
            state *= spare
            np.bitwise_and(entry, _SLOT_MASK, out=spare)
            state += spare
            low = (state < _LIMIT).nonzero()[0]
            renewed = state.take(low) << _WORD
            end = at + low.size
            if end > words.size:
                raise ValueError("too few words")
            renewed |= words[at:end]
            state[low] = renewed
            at = end
            if last == stop:
                break
        self._at = at

    def finish(self) -> None:
        """Raise ValueError unless everything was used up."""
        if self._words.size != self._at or np.any(self._state != _LOW):
            raise ValueError("words left over")

    def _retire(self, lanes: int) -> None:
        gone = self._state[lanes:]
        if np.any(gone >> np.uint32(16) != 1):
            raise ValueError("a lane retired in the wrong state")
        rest = self._words[self._at :]
        self._words, self._at = np.concatenate([gone & _WORD_MASK, rest]), 0
        self._state, self._spare = self._state[:lanes].copy(), self._spare[:lanes]
