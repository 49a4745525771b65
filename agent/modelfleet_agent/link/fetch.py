"""Downloads: ranged, resumable, never past the signed length, judged by the digest."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelfleet_agent.store import Store

Progress = Callable[[int, int], None]
"""Called with (bytes on disk, bytes in all) as a download goes on."""


@dataclass(frozen=True, slots=True)
class DeltaOffer:
    """A patch that the server offers; unsigned, its result is what counts.

    Attributes:
        blob: SHA-256 of the patch.
        length: Its bytes.
        method: Name of the method, for reports.
        memory: Bytes that applying it takes.
    """

    blob: str
    length: int
    method: str
    memory: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """A verified file.

    Attributes:
        path: Where it is.
        received: Bytes that came over the network in this call.
        resumed: Bytes that were there already.
    """

    path: Path
    received: int
    resumed: int


class Fetcher:
    """Fetches from one server into a store. One per thread."""

    def __init__(
        self,
        server: str,
        token: str,
        store: Store,
        *,
        reserve: int = 0,
        timeout_s: float = 15,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            server: Base URL.
            token: Bearer token of the device.
            store: Where files go.
            reserve: Bytes that stay free on the file system.
            timeout_s: The longest wait for a byte.
        """
        raise NotImplementedError

    def fetch_file(
        self,
        digest: str,
        length: int,
        *,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> Fetched:
        """Bring the file `digest` into the store. Idempotent; goes on where it was cut.

        Args:
            digest: SHA-256 that was signed.
            length: Bytes that were signed.
            cancel: Set by another thread to stop; noticed at the next block, or after
                `timeout_s` where none comes.
            progress: Told after every block.

        Raises:
            RetryableError: `E_UNREACHABLE`, `E_CUT`, `E_SLOW`, `E_NOT_FOUND`, `E_HTTP`,
                `E_RANGE`, `E_NO_SPACE`, `E_CANCELLED`, …; `data["received"]` says how many
                bytes came in this call.
            RefusedError: `E_LENGTH` or `E_DIGEST`: the server has other bytes.
        """
        raise NotImplementedError

    def fetch_patch(
        self,
        offer: DeltaOffer,
        *,
        cancel: threading.Event | None = None,
        progress: Progress | None = None,
    ) -> Fetched:
        """Bring a patch into `incoming`; the caller removes it. Raises as `fetch_file`."""
        raise NotImplementedError

    def get_delta_offer(self, new: str, old: str) -> DeltaOffer | None:
        """Return the server's patch from the file `old` to `new`, or None.

        Raises:
            RetryableError: The server cannot be asked, or answers nonsense.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection."""
