"""A partial download on disk: how much is there, what it came with, whether to go on."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import RetryableError

Progress = Callable[[int, int], None]
"""Called with (bytes on disk, bytes in all) as a download goes on."""

# Slower than this over `RATE_WINDOW_S` is a stall: a server that drips holds nobody up.
LEAST_RATE = 256
RATE_WINDOW_S = 30.0


@dataclass
class Partial:
    """One file on its way.

    Attributes:
        digest: SHA-256 that it is to have.
        length: Bytes that it is to have.
        path: Where it grows.
        cancel: Ends it.
        progress: Told after every block.
        received: Bytes that came over the network so far.
        resumed: Bytes on disk that are from before.
        restarted: It was begun anew once, since a range did not fit.
    """

    digest: str
    length: int
    path: Path
    cancel: threading.Event | None
    progress: Progress | None
    received: int = 0
    resumed: int = 0
    restarted: bool = False
    _window: tuple[float, int] = field(default_factory=lambda: (monotonic_s(), 0))

    @property
    def tag_path(self) -> Path:
        """Where the ETag of the partial file is kept."""
        return self.path.with_name(f"{self.path.name}.etag")

    @property
    def have(self) -> int:
        """Bytes on disk; none where there are more than there may be."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return size if size <= self.length else 0

    def drop(self) -> None:
        """Begin anew."""
        self.drop_tag()
        fsio.remove(self.path)

    def check(self) -> None:
        """Return if the download may go on.

        Raises:
            RetryableError: `E_CANCELLED` or `E_SLOW`.
        """
        if self.cancel is not None and self.cancel.is_set():
            raise RetryableError(
                "E_CANCELLED", f"the download of {self.digest} was cancelled"
            )
        began, then = self._window
        now = monotonic_s()
        if now - began < RATE_WINDOW_S:
            return
        if self.received - then < LEAST_RATE * RATE_WINDOW_S:
            what = f"{self.digest}: under {LEAST_RATE} bytes/s for {RATE_WINDOW_S:g} s"
            raise RetryableError("E_SLOW", what)
        self._window = (now, self.received)

    def read_tag(self) -> str:
        """Return the ETag that the bytes on disk came with, or nothing."""
        try:
            return self.tag_path.read_text("ascii")
        except (OSError, ValueError):
            return ""  # without it the digest alone decides

    def keep_tag(self, tag: str) -> None:
        """Keep a strong ETag; a weak one says nothing about bytes."""
        if tag.startswith('"') and tag.isascii():
            fsio.write_atomic(self.tag_path, tag.encode())
        else:
            self.drop_tag()

    def drop_tag(self) -> None:
        """Forget the ETag."""
        fsio.remove(self.tag_path, durable=False)
