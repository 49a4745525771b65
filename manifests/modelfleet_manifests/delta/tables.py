"""How often each symbol came in each context so far: both sides learn the same.

Nothing about frequencies is written into a patch. Each context starts from a guess, counts
what it sees, and the tables are made anew each time the elements seen have doubled.
"""

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .rans import FREQUENCY, PROB_BITS, SYMBOL, DecodingTables
from .symbols import ALPHABET, ESCAPE, FINE, SIDE, bin_powers, bin_sizes

Array = NDArray[Any]

FIRST_REFRESH: Final = 1 << 8
"""Elements after which the tables are made anew for the first time."""
LAST_REFRESH: Final = 1 << 20
"""Elements between two refreshes, at most."""
_TOTAL: Final = 1 << PROB_BITS
_SEEN: Final = 16
"""What one element adds to its count."""
_GUESSED: Final = 24
"""How many elements a guess weighs."""
_OUTER: Final = np.arange(FINE, SIDE)
"""Bins as wide as an octave."""
_SPARSE: Final = 1 << 16
"""Elements seen after which only one in four is counted: enough, and faster."""
_SETTLED: Final = 1 << 18
"""A context whose counts add up to more gives nothing to symbols it has not seen."""
_OLD_AGE: Final = 1 << 21
"""A context whose counts add up to more is halved, so that it follows changes."""


def guess_counts(means: Array, cut: Array, shifts: Array, tops: Array) -> Array:
    """Return the counts that contexts start from, one row each: two-sided geometric.

    Args:
        means: Expected size of what is coded, in 1/16; int64.
        cut: Whether low bits were cut off, so that -1 is as likely as 0; bool.
        shifts: Bits of what is coded that were cut off, int64.
        tops: What a residual is always less than, int64; 0 if it is never much larger than
            expected.
    """
    # the weight of size n + 1 is that of n times mean / (mean + 1), in whole 2^-20
    sizes = bin_sizes()[:FINE]
    weights = np.empty((int(sizes.sum()) + 1, means.size), np.int64)
    weights[0] = 1 << 20
    for number in range(1, len(weights)):
        weights[number] = weights[number - 1] * means // (means + 16)
    starts = np.cumsum(sizes) - sizes
    positive = np.add.reduceat(weights[:-1], starts)
    negative = np.where(cut, positive, np.add.reduceat(weights[1:], starts))
    counts = np.zeros((means.size, ALPHABET), np.int64)
    counts[:, :FINE], counts[:, SIDE : SIDE + FINE] = positive.T, negative.T
    counts[:] = counts * (_GUESSED * _SEEN) // counts.sum(1, keepdims=True)
    starts = np.int64(1) << bin_powers()[_OUTER]
    outer = (starts << shifts[:, None]) < tops[:, None]
    counts[:, _OUTER] = outer
    counts[:, SIDE + _OUTER] = outer
    counts[:, ESCAPE] = 2
    counts[:, 0] += 1
    return counts


class Tables:
    """The counts of all contexts of a stream, and the tables in force.

    Attributes:
        codes: For context * ALPHABET + symbol: frequency << 16 | sum of the frequencies of
            lower symbols, uint32. A symbol of frequency 0 is escaped.
    """

    codes: Array

    def __init__(self, guesses: Array) -> None:
        """Start from one row of counts per context."""
        self._counts = guesses.copy()
        self._seen = 0
        self._due = FIRST_REFRESH
        self._held: tuple[bytes, DecodingTables] | None = None
        self._set_frequencies()

    def copy(self) -> "Tables":
        """Return tables that learn on their own from here."""
        twin = Tables.__new__(Tables)
        twin.__dict__.update(self.__dict__, _counts=self._counts.copy())
        return twin

    @property
    def stride(self) -> int:
        """One in so many elements is counted now."""
        return 4 if self._seen >= _SPARSE else 1

    def learn(self, keys: Iterable[Array], size: int) -> None:
        """Count elements; the tables change when enough were seen.

        Args:
            keys: `context * ALPHABET + symbol` of every `stride`-th of them, in pieces.
            size: How many elements there are.
        """
        for some in keys:
            counts = np.bincount(some, minlength=self._counts.size)
            self._counts += counts.reshape(self._counts.shape) * _SEEN
        self._seen += size
        if self._seen < self._due:
            return
        self._due = self._seen + min(self._seen, LAST_REFRESH)
        old = self._counts.sum(1) > _OLD_AGE
        self._counts[old] -= self._counts[old] >> 1
        self._set_frequencies()

    def missing(self) -> int:
        """Return how many more elements bring the next refresh."""
        return max(1, self._due - self._seen)

    def decoding(self, contexts: Array) -> DecodingTables:
        """Return the decoding tables of these contexts, each at most once."""
        key = contexts.tobytes()
        if self._held is not None and self._held[0] == key:
            return self._held[1]
        self._held = None  # before the next ones are made: they are large
        freqs, starts = self._freqs[contexts].ravel(), self._starts[contexts].ravel()
        heads = np.tile(np.arange(ALPHABET, dtype=np.uint32) << SYMBOL, contexts.size)
        heads |= freqs << FREQUENCY
        heads -= starts
        entries = np.repeat(heads, freqs)
        # within a run of one symbol, slot - start counts up from 0
        rows = entries.reshape(-1, _TOTAL)
        rows += np.arange(_TOTAL, dtype=np.uint32)
        places = np.zeros(len(self._freqs), np.int64)
        places[contexts] = np.arange(contexts.size) << PROB_BITS
        tables = DecodingTables(places, entries)
        self._held = key, tables
        return tables

    def _set_frequencies(self) -> None:
        self._freqs, self._starts = _frequencies(self._counts)
        self.codes = (self._freqs << np.uint32(16) | self._starts).ravel()
        self._held = None


def _frequencies(counts: Array) -> tuple[Array, Array]:
    """Return (frequencies, starts) per context and symbol, uint32; each row adds to 2^13.

    Symbols that were never counted have frequency 0 and are escaped, but for the neighbours
    of those that were, while the context is young: so what is used can spread.
    """
    used = (counts > 0).astype(np.int64)
    spreads = (counts > 0) & (counts.sum(1, keepdims=True) < _SETTLED)
    used[:, 1:ESCAPE] |= spreads[:, : ESCAPE - 1]
    used[:, : ESCAPE - 1] |= spreads[:, 1:ESCAPE]
    room = _TOTAL - used.sum(1, keepdims=True)
    freqs = used + counts * room // counts.sum(1, keepdims=True)
    top = counts.argmax(1)
    freqs[np.arange(top.size), top] += _TOTAL - freqs.sum(1)
    starts = np.cumsum(freqs, 1) - freqs
    return freqs.astype(np.uint32), starts.astype(np.uint32)
