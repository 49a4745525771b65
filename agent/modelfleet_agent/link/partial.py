"""A partial download on disk: how much is there, what it came with, whether to go on.

Beside the bytes lies a note: where they came from, and the digest of the first so many of
them. Bytes behind that were not on the disk for sure when the power went: a resumed
download begins behind what the note proves, and loses no more than that.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import RetryableError

Progress = Callable[[int, int], None]
"""Called with (bytes on disk, bytes in all) as a download goes on."""

NOTE = ".note"
MAX_NOTE = 4096


@dataclass(frozen=True, slots=True)
class Rate:
    """Slower than this is a stall: a server that drips holds nobody up.

    Attributes:
        least: Bytes per second; 0 waits for ever.
        window_s: Seconds over which it is measured.
    """

    least: int = 256
    window_s: float = 30.0


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the bytes on disk.

    Attributes:
        base: Whose bytes came last.
        etag: That they came with there; "" where there was no strong one.
        length: So many were on the disk for sure.
        sha256: Of them.
    """

    base: str = ""
    etag: str = ""
    length: int = 0
    sha256: str = ""


@dataclass
class Partial:
    """One file on its way.

    Attributes:
        digest: SHA-256 that it is to have.
        length: Bytes that it is to have.
        path: Where it grows.
        cancel: Ends it.
        progress: Told after every block.
        rate: The least.
        received: Bytes that came over the network so far.
        resumed: Bytes on disk that are from before.
        restarted: It was begun anew once, since a range did not fit.
        origins: Whose bytes are in it; "" for those that are from before.
    """

    digest: str
    length: int
    path: Path
    cancel: threading.Event | None
    progress: Progress | None
    rate: Rate = Rate()
    received: int = 0
    resumed: int = 0
    restarted: bool = False
    origins: set[str] = field(default_factory=set)
    note: Note = field(default_factory=Note)
    _hash: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    _window: tuple[float, int] = field(default_factory=lambda: (monotonic_s(), 0))

    @property
    def note_path(self) -> Path:
        """Where the note lies."""
        return self.path.with_name(f"{self.path.name}{NOTE}")

    @property
    def have(self) -> int:
        """Bytes on disk; none where there are more than there may be."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return size if size <= self.length else 0

    @property
    def found(self) -> str:
        """SHA-256 of all bytes so far, hashed as they were read or written here."""
        return self._hash.hexdigest()

    def resume(self) -> None:
        """Take up what is on disk, as far as its note proves it.

        Without a proof all of it is taken up: the digest of the whole will tell.
        """
        self.note = self._read_note()
        have = self.have
        if self.note.length > have or (self.note.length and not self._is_proven()):
            self.drop()
            return
        if self.note.length and have < self.length:
            with fsio.Appender(self.path, keep=self.note.length) as file:
                file.sync()
        self.resumed = self.have
        if self.resumed:
            self.origins = {""}
        self._hash = _hash(self.path, self.resumed)

    def begin(self, base: str, etag: str, *, keep: int) -> None:
        """Bytes from `base` follow behind `keep`, durably noted before they come."""
        if keep == 0:
            self.resumed = 0
            self.origins = set()
            self._hash = hashlib.sha256()
        self.origins.add(base)
        strong = etag if etag.startswith('"') and etag.isascii() else ""
        proven = self.note if keep and self.note.length <= keep else Note()
        note = msgspec.structs.replace(proven, base=base, etag=strong)
        if note != self.note:
            self._keep_note(note)

    def add(self, block: bytes) -> None:
        """Count a block that was written."""
        self.received += len(block)
        self._hash.update(block)

    def prove(self, length: int) -> None:
        """Note durably that all bytes so far, `length` of them, are on the disk."""
        if length != self.note.length:
            note = msgspec.structs.replace(
                self.note, length=length, sha256=self._hash.hexdigest()
            )
            self._keep_note(note)

    def drop(self) -> None:
        """Begin anew."""
        self.drop_note()
        self.resumed = 0
        self.origins = set()
        fsio.remove(self.path)

    def drop_note(self) -> None:
        """Forget the note."""
        self.note = Note()
        fsio.remove(self.note_path, durable=False)

    def watch(self) -> None:
        """From now on the rate counts: another source, or another try."""
        self._window = (monotonic_s(), self.received)

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
        now, rate = monotonic_s(), self.rate
        if now - began < rate.window_s:
            return
        if self.received - then < rate.least * (now - began):
            what = f"{self.digest}: under {rate.least} bytes/s for {rate.window_s:g} s"
            raise RetryableError("E_SLOW", what)
        self._window = (now, self.received)

    def _is_proven(self) -> bool:
        return _hash(self.path, self.note.length).hexdigest() == self.note.sha256

    def _read_note(self) -> Note:
        try:
            return msgspec.json.decode(self.note_path.read_bytes()[:MAX_NOTE], type=Note)
        except (OSError, msgspec.MsgspecError):
            return Note()  # without it the digest of the whole alone decides

    def _keep_note(self, note: Note) -> None:
        fsio.write_atomic(self.note_path, msgspec.json.encode(note))
        self.note = note


def _hash(path: Path, length: int) -> "hashlib._Hash":
    """Return the state of SHA-256 after the first `length` bytes of a file."""
    digest, left = hashlib.sha256(), length
    if left == 0:
        return digest
    with path.open("rb") as file:
        while left and (block := file.read(min(left, fsio.BLOCK))):
            digest.update(block)
            left -= len(block)
    return digest
