"""Which part of the old text a block of new text most likely came from.

Anchors are positions that the bytes themselves choose: one in about a thousand. Where the
same anchor stands in both files, the distance between them is a vote.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_CHUNK: Final = 1 << 20
_SPAN: Final = 8
"""Bytes that make an anchor."""
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_CHOSEN: Final = np.uint64(1 << 54)
_BIN: Final = 1 << 16
"""Votes that lie this near to each other, in bytes, count together."""
_FEW: Final = 16
"""A start with fewer than one in so many votes is chance."""


class Anchors:
    """The anchors of an old text."""

    def __init__(self, window: Callable[[int, int], bytes], size: int) -> None:
        """Read all of it: `window(start, length)`, of `size` bytes in total."""
        found = [
            (*_find(window(at, _CHUNK + _SPAN - 1)), at) for at in range(0, size, _CHUNK)
        ]
        hashes = np.concatenate([one[0] for one in found])
        places = np.concatenate([one[1] + one[2] for one in found])
        self._hashes, first = np.unique(hashes, return_index=True)
        self._places = places[first]

    def locate(self, block: bytes, most: int) -> list[int]:
        """Return where in the old text `block` would start, the best guess first.

        A block that was put together from several places has several starts, at most
        `most` and none if nothing of it is known.
        """
        hashes, places = _find(block)
        if not hashes.size or not self._hashes.size:
            return []
        at = np.searchsorted(self._hashes, hashes)
        at[at == self._hashes.size] = 0
        known = self._hashes[at] == hashes
        votes = self._places[at[known]] - places[known]
        bins, counts = np.unique(votes // _BIN, return_counts=True)
        likely = np.argsort(-counts, kind="stable")[:most]
        likely = likely[counts[likely] * _FEW > counts.sum()]
        return [int(np.median(votes[votes // _BIN == number])) for number in bins[likely]]


def _find(data: bytes) -> tuple[Array, Array]:
    """Return (hashes, positions) of the anchors of `data`, ascending by position."""
    hashes: list[Array] = []
    places: list[Array] = []
    for shift in range(_SPAN):
        count = (len(data) - shift) // _SPAN
        if count < 1:
            continue
        mixed = np.frombuffer(data, "<u8", count, shift) * _MIX
        chosen = (mixed < _CHOSEN).nonzero()[0]
        hashes.append(mixed[chosen])
        places.append(chosen * _SPAN + shift)
    if not hashes:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    place = np.concatenate(places)
    order = np.argsort(place)
    return np.concatenate(hashes)[order], place[order]
