"""Blocks of text, made one after the other."""

from typing import Final

from .anchors import Anchors
from .container import Header, Op
from .schedule import list_new_text, list_old_text
from .text import MAX_WINDOW, MAX_WINDOWS, Text, encode_text

_LEVELS: Final = ((4 << 20, 19), (32 << 20, 12))
"""(bytes of text up to which, zstd level): high levels only while they are cheap."""
_FASTEST: Final = 9
"""Below, zstd does not see most of a window of 2 MiB."""


class TextAuthor:
    """Encodes the text of a new file against that of an old one."""

    def __init__(
        self, old: memoryview, new: memoryview, header: Header, ops: list[Op]
    ) -> None:
        """Start at the first byte of text."""
        gaps = list_new_text(header, ops)
        self._new = Text(lambda at, size: new[at : at + size], gaps)
        self._old = Text(lambda at, size: old[at : at + size], list_old_text(header, ops))
        self._level = next(
            (level for size, level in _LEVELS if self._new.size <= size), _FASTEST
        )
        self._anchors: Anchors | None = None
        self._done = 0
        self._last = 0  # where the block before ended in the old text

    def encode(self, size: int) -> bytes:
        """Return the payload of the next block, of `size` bytes of text."""
        data = self._new.window(self._done, size)
        self._done += size
        return encode_text(data, self._old, self._list_windows(data), level=self._level)

    def skip(self, size: int) -> None:
        """Leave out a block."""
        self._done += size
        self._last += size

    def _list_windows(self, data: bytes) -> list[int]:
        """Return where windows start in which the like of `data` most likely is."""
        if self._old.size <= MAX_WINDOW:
            return [0]
        if self._anchors is None:
            self._anchors = Anchors(self._old.window, self._old.size)
        found = self._anchors.locate(data, MAX_WINDOWS) or [self._last]
        self._last = found[0] + len(data)
        slack = max(0, MAX_WINDOW // len(found) - len(data)) // 2
        return [start - slack for start in found]
