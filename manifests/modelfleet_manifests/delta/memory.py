"""What the allocator does with memory that was freed."""

from typing import Final

import numpy as np

_LARGEST: Final = 31 << 20
"""Bytes: hardly any array of this package is larger, and glibc learns of less than 32 MiB
only. It keeps twice as much before it gives memory back."""


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, instead of faulting the same pages in again and again.

    It maps large blocks from the system until it has seen one of their size freed; nothing
    of this one is ever touched. A third of the time of applying went into page faults.
    Other allocators do what they always do.
    """
    np.empty(_LARGEST, np.uint8)
