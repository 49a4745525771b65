"""Elements as unsigned words of their width, whatever their bits mean."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[Any]
"""`<u1`, `<u2`, `<u4` or `<u8`; numpy's own types cannot say "the same width as that"."""


def words_of(data: bytes | memoryview, width: int) -> Words:
    """Return a view of little-endian words of `width` bytes."""
    return np.frombuffer(data, f"<u{width}")
