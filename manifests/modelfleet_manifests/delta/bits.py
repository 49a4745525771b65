"""Fields of 0 to 32 bits each, one after the other, lowest bit first."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_WORD_BITS: Final = 32
_ONE: Final = np.uint32(1)
_FEW: Final = 3
"""Fields are read alone where not even one in so many elements has one."""

Array = NDArray[Any]


def packed_size(bits: int) -> int:
    """Return the bytes that `pack_bits` makes of that many bits."""
    return 4 * -(-bits // _WORD_BITS)


def pack_bits(values: Array, widths: Array) -> bytes:
    """Return the fields, padded with zeros to a multiple of four bytes.

    Args:
        values: Each below 2^width, uint32.
        widths: 0 to 32 bits, one per value.
    """
    used = widths != 0  # places of what is True are found many times faster
    if not used.all():
        some = used.nonzero()[0]
        values, widths = values[some], widths[some]
    if not widths.size:
        return b""
    starts = np.cumsum(widths, dtype=np.int64)
    total = int(starts[-1])
    starts -= widths
    places = starts >> 5
    starts &= 31
    shifted = values.astype(np.uint64)
    shifted <<= starts.view(np.uint64)
    # fields that start in one word are disjoint: or them, then write that word and the next
    begins = np.empty(places.size, np.bool_)
    begins[0] = True
    np.not_equal(places[1:], places[:-1], out=begins[1:])
    firsts = begins.nonzero()[0]
    joined = np.bitwise_or.reduceat(shifted, firsts)
    words = np.zeros(packed_size(total) // 4 + 1, np.uint32)
    rows = places[firsts]
    words[rows] = joined.astype(np.uint32)
    words[rows + 1] |= (joined >> np.uint64(32)).astype(np.uint32)
    return words[:-1].tobytes()


class BitReader:
    """Reads what `pack_bits` wrote, some fields at a time."""

    def __init__(self, data: bytes | memoryview, most: int = _WORD_BITS) -> None:
        """Start at the first bit.

        Args:
            data: The fields.
            most: Bits of the widest field, at most 32.

        Raises:
            ValueError: The length is not a multiple of four bytes.
        """
        if len(data) % 4:
            raise ValueError("bits of an odd length")
        self._end = len(data)
        self._at = 0
        # each entry holds its word and the next, so any field lies in one entry
        half = most <= _WORD_BITS // 2
        self._log = 4 if half else 5
        word, entry = ("<u2", "<u4") if half else ("<u4", "<u8")
        words: Array = np.zeros((len(data) << 3 >> self._log) + 2, entry)
        words[:-2] = np.frombuffer(data, word)
        words[:-1] |= words[1:] << words.dtype.type(1 << self._log)
        self._words = words

    def take(self, widths: Array) -> Array:
        """Return the next fields as uint32; `widths` is uint8.

        Raises:
            ValueError: There are not as many bits.
        """
        if not widths.size:
            return np.empty(0, np.uint32)
        # a block has less than 2^27 bits, so 32 are enough to count them
        places = np.cumsum(widths, dtype=np.uint32)
        total = int(places[-1])
        if packed_size(self._at + total) > self._end:
            raise ValueError("too few raw bits")
        places -= widths
        places += np.uint32(self._at)
        self._at += total
        wide: Array = self._words.take(places >> np.uint32(self._log))
        places &= np.uint32((1 << self._log) - 1)
        wide >>= places
        fields: Array = wide.astype(np.uint32, copy=False)
        masks = np.left_shift(_ONE, widths, dtype=np.uint32)
        masks -= _ONE
        fields &= masks
        return fields

    def add(self, left: Array, widths: Array) -> None:
        """Add the next fields to `left`, in place."""
        used = widths != 0
        if np.count_nonzero(used) * _FEW < widths.size:
            some = used.nonzero()[0]
            left[some] += self.take(widths[some]).astype(left.dtype)
        else:
            left += self.take(widths).astype(left.dtype, copy=False)

    def finish(self) -> None:
        """Raise ValueError unless all bits were read."""
        if packed_size(self._at) != self._end:
            raise ValueError("raw bits left over")


def unpack_bits(data: bytes | memoryview, widths: Array) -> Array:
    """Return the fields of all of `data` as uint32; undoes `pack_bits`.

    Raises:
        ValueError: `data` is not as long as the widths say.
    """
    reader = BitReader(data)
    fields = reader.take(widths)
    reader.finish()
    return fields
