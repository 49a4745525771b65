"""The body of a large request: received where the model reads it, without a copy."""

import asyncio
from collections.abc import Callable, Mapping

LEAST = 64 << 10
MOST = 4 << 20  # a claimed length is memory: beyond this it must be sent first
ALIGNMENT = 16
HEADER_LENGTH = "inference-header-content-length"


class LargeBody(asyncio.BufferedProtocol):
    """Takes the place of the connection's protocol until the body is complete."""

    def __init__(
        self, length: int, offset: int, lost: Callable[[Exception | None], None]
    ) -> None:
        """Make room.

        Args:
            length: Of the body.
            offset: Where its tensors begin: that place is aligned.
            lost: Called when the client is gone.
        """
        pad = -offset % ALIGNMENT
        self._view = memoryview(bytearray(pad + length))[pad:]
        self._filled = 0
        self._lost = lost
        self.done: Callable[[], None] = lambda: None

    @property
    def view(self) -> memoryview:
        """The body."""
        return self._view

    @property
    def is_complete(self) -> bool:
        """Nothing is missing."""
        return self._filled == len(self._view)

    def take(self, part: bytes) -> None:
        """Take the first bytes, which came with the headers."""
        self._view[self._filled : self._filled + len(part)] = part
        self._filled += len(part)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's
        """Return the room that is left, never more than the body's."""
        return self._view[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came; the last byte ends it."""
        self._filled += nbytes
        if self.is_complete:
            self.done()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._lost(exc)


def large_body(
    headers: Mapping[str, str], lost: Callable[[Exception | None], None]
) -> LargeBody | None:
    """Return room for the body that `headers` announce; None for one that is not large."""
    text = headers.get("content-length", "")
    if not text.isdigit() or not LEAST <= int(text) <= MOST:
        return None
    at = headers.get(HEADER_LENGTH, "0")
    return LargeBody(int(text), int(at) if at.isdigit() else 0, lost)
