"""What must survive a power cut at any instant, in files of two pages.

A `Pages` file holds the last two values that were written to it, each in a page of its own
of fixed size: a magic word, a number that rises, the length, the SHA-256 of number and
body, then the body. A write goes to the page that does not hold the newest sound value
and is fsynced, so a torn write, a rotten sector or a truncated file costs at most the
newest value, and the one before is read instead. The caller's effects are idempotent, so
going back by one value repeats work and never skips any.

The file keeps its blocks from its creation on: it can be written on a full disk.

    <8 magic> <8 number> <4 length> <32 SHA-256> <length bytes of body>   (big endian)
"""

import hashlib
import logging
import struct
import threading
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import UsageError

MAGIC = b"mfpage-1"
HEAD = struct.Struct(">8sQI32s")
PAGES = 2
T = TypeVar("T")

log = logging.getLogger(__name__)


class _Page(NamedTuple):
    number: int
    body: bytes


class Pages:
    """One value of bytes, replaced durably. Safe to use from several threads."""

    def __init__(self, path: Path, *, size: int) -> None:
        """Open `path`, which is created with the first `write`.

        Args:
            path: The file.
            size: Of one page in bytes, head included; fixed for the life of the file.
        """
        self.path = path
        self._size = size
        self._lock = threading.Lock()

    @property
    def damaged(self) -> int:
        """How many pages of an existing file hold something that is not sound."""
        return sum(page is None and bool(raw.strip(b"\0")) for raw, page in self._pages())

    @property
    def sound(self) -> bool:
        """There is a value."""
        return any(page is not None for _, page in self._pages())

    def read(self) -> bytes | None:
        """Return the newest sound value, or None where there is none.

        Raises:
            OSError: The file is there and cannot be read.
        """
        sound = [page for _, page in self._pages() if page]
        return max(sound, default=_Page(0, b"")).body if sound else None

    def write(self, body: bytes) -> None:
        """Replace the value; durable on return.

        Raises:
            UsageError: `E_TOO_LARGE`: it does not fit into a page.
            RetryableError: `E_NO_SPACE`, `E_READ_ONLY`, `E_DISK`; the value before holds.
        """
        if len(body) > self._size - HEAD.size:
            raise UsageError(
                "E_TOO_LARGE", f"{len(body)} bytes do not fit a page of {self.path}"
            )
        with self._lock:
            if not self.path.exists():
                fsio.write_atomic(self.path, bytes(self._size * PAGES))
            numbers = [page.number if page else 0 for _, page in self._pages()]
            number = max(numbers) + 1
            place = numbers.index(min(numbers))
            head = HEAD.pack(MAGIC, number, len(body), _sum(number, body))
            fsio.overwrite(self.path, place * self._size, head + body)

    def _pages(self) -> list[tuple[bytes, _Page | None]]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            data = b""
        raws = [data[n * self._size : (n + 1) * self._size] for n in range(PAGES)]
        return [(raw, _parse(raw)) for raw in raws]


def read_value(pages: Pages, kind: type[T], default: T) -> T:
    """Return the value in `pages` as a `kind`; `default` where none can be had.

    A file that cannot be read, or was written by another version of the agent, must not
    keep the device from booting: what it said is found out again.
    """
    try:
        body = pages.read()
        return default if body is None else msgspec.json.decode(body, type=kind)
    except (OSError, msgspec.MsgspecError):
        log.exception("MF_DAMAGED %s cannot be read; going on without it", pages.path)
        return default


def _parse(raw: bytes) -> _Page | None:
    if len(raw) < HEAD.size:
        return None
    magic, number, length, digest = HEAD.unpack_from(raw)
    body = raw[HEAD.size : HEAD.size + length]
    if magic != MAGIC or len(body) != length or _sum(number, body) != digest:
        return None
    return _Page(number, body)


def _sum(number: int, body: bytes) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big") + body).digest()
