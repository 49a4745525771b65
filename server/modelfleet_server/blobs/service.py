"""The object store, and the rows that say what in it is wanted.

Bytes first, rows second: `store.put(...)` outside of any transaction (hashing takes time),
then `keep(session, blob, at_ms=...)` in the transaction that refers to it. Bytes without a
row are litter, a row without bytes would be a lie.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from obstore.exceptions import AlreadyExistsError, NotModifiedError
from obstore.store import LocalStore, ObjectStore, from_url
from sqlmodel import Session

from modelfleet_manifests.digests import is_digest
from modelfleet_server.blobs.tables import StoredBlob
from modelfleet_server.kit.db import after_commit
from modelfleet_server.kit.errors import InvalidError, NotFoundError
from modelfleet_server.kit.ids import new_id

CHUNK = 1 << 20


class Blob(NamedTuple):
    """What names bytes: their SHA-256 in 64 hexadecimal digits, and how many they are."""

    digest: str
    length: int


class WrongDigestError(InvalidError):
    """The bytes are not those that were announced."""

    code = "wrong-digest"


class TooLargeError(InvalidError):
    """More bytes than one blob may have."""

    code = "too-large"


class Incoming:
    """Bytes on their way in, hashed as they come; nothing is visible until `finish`."""

    def __init__(self, path: Path, file: BinaryIO, cap: int | None) -> None:
        self.path = path
        self.length = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._cap = cap

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            TooLargeError: They are more than `cap` in all.
        """
        self.length += len(chunk)
        if self._cap is not None and self.length > self._cap:
            raise TooLargeError(f"the upload is larger than {self._cap} bytes")
        self._hash.update(chunk)
        self._file.write(chunk)

    def seal(self, digest: str | None) -> Blob:
        """Make the temporary file durable and return what it is.

        Raises:
            WrongDigestError: It is not `digest`.
        """
        found = self._hash.hexdigest()
        if digest is not None and digest != found:
            raise WrongDigestError(
                f"the bytes have the digest {found}, not {digest}",
                "Send the file again, or name its own digest.",
                expected=digest,
                found=found,
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        return Blob(found, self.length)


class BlobStore:
    """Content-addressed bytes in a directory or a bucket; safe to use from all threads.

    Args:
        url: `file:///absolute/directory`, or a bucket as obstore names it (`s3://...`).
        scratch: Local directory for bytes on their way in, and for local copies of bytes of
            a bucket. For a directory store it must be on the same file system.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        self._scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self._root: Path | None = None
        self._store: ObjectStore
        if url.startswith("file://"):
            self._root = Path(url.removeprefix("file://"))
            self._store = LocalStore(self._root, mkdir=True)
        else:
            self._store = from_url(url)

    def put(self, source: bytes | Path, digest: str | None = None) -> Blob:
        """Store bytes, or the contents of a file; do nothing if they are here already.

        Raises:
            WrongDigestError: They are not `digest`; nothing is stored.
        """
        with self.receive() as incoming:
            if isinstance(source, bytes):
                incoming.write(source)
            else:
                with source.open("rb") as file:
                    while chunk := file.read(CHUNK):
                        incoming.write(chunk)
            return self.finish(incoming, digest)

    @contextmanager
    def receive(self, cap: int | None = None) -> Iterator[Incoming]:
        """Give a sink for bytes of at most `cap`; what is not finished leaves nothing."""
        path = self._scratch / new_id()
        try:
            with path.open("xb") as file:
                yield Incoming(path, file, cap)
        finally:
            path.unlink(missing_ok=True)

    def finish(self, incoming: Incoming, digest: str | None = None) -> Blob:
        """Make received bytes a blob.

        Raises:
            WrongDigestError: They are not `digest`; nothing is stored.
        """
        blob = incoming.seal(digest)
        if self._root is not None:
            _link(incoming.path, self._root / _key(blob.digest))
        elif not self.exists(blob.digest):
            try:
                self._store.put(_key(blob.digest), incoming.path, mode="create")
            except (AlreadyExistsError, NotModifiedError):
                return blob  # somebody else put the same bytes first
        return blob

    def remove(self, digest: str) -> None:
        """Remove bytes that no row wants any more; whoever reads them may read on."""
        with suppress(FileNotFoundError):
            self._store.delete(_key(digest))
        (self._scratch / "copies" / digest).unlink(missing_ok=True)

    def find(self, digest: str) -> Blob | None:
        """Return the blob if its bytes are here."""
        if not is_digest(digest):
            return None
        try:
            return Blob(digest, self._store.head(_key(digest))["size"])
        except FileNotFoundError:
            return None

    def exists(self, digest: str) -> bool:
        """Say whether the bytes are here."""
        return self.find(digest) is not None

    def get(self, digest: str) -> Blob:
        """Return the blob.

        Raises:
            NotFoundError: Its bytes are not here.
        """
        blob = self.find(digest)
        if blob is None:
            raise NotFoundError(f"there is no blob {digest}", digest=digest)
        return blob

    def open_range(
        self, digest: str, start: int = 0, end: int | None = None
    ) -> Iterator[bytes]:
        """Yield the bytes from `start` up to and without `end`, about a MiB at a time.

        Raises:
            NotFoundError: The bytes are not here; raised at once, not by the first step.
        """
        blob = self.get(digest)
        stop = blob.length if end is None else min(end, blob.length)
        if start >= stop:
            return iter(())
        result = self._store.get(_key(digest), options={"range": (start, stop)})
        return (bytes(chunk) for chunk in result.stream(min_chunk_size=CHUNK))

    def read(self, digest: str) -> bytes:
        """Return all bytes of a small blob.

        Raises:
            NotFoundError: They are not here.
        """
        return b"".join(self.open_range(digest))

    def path_of(self, digest: str) -> Path:
        """Return a local file with these bytes: read it, map it, never change or move it.

        In a directory store it is the blob itself, otherwise a copy in `scratch`.

        Raises:
            NotFoundError: They are not here.
        """
        self.get(digest)
        if self._root is not None:
            return self._root / _key(digest)
        copy = self._scratch / "copies" / digest
        if not copy.exists():
            with self.receive() as incoming:
                for chunk in self.open_range(digest):
                    incoming.write(chunk)
                incoming.seal(digest)
                _link(incoming.path, copy)
        return copy


def keep(session: Session, blob: Blob, *, at_ms: int) -> StoredBlob:
    """Record that `blob` is wanted; the row that is there already stays as it is."""
    row = session.get(StoredBlob, blob.digest)
    if row is None:
        row = StoredBlob(digest=blob.digest, length=blob.length, created_ms=at_ms)
        session.add(row)
        session.flush()
    return row


def forget(session: Session, digest: str, store: BlobStore) -> None:
    """Want a blob no more; its bytes go once the transaction is durable.

    The caller knows that nothing else names it.
    """
    row = session.get(StoredBlob, digest)
    if row is not None:
        session.delete(row)
        session.flush()
    after_commit(session, lambda: store.remove(digest))


def _key(digest: str) -> str:
    return f"sha256/{digest[:2]}/{digest}"


def _link(source: Path, target: Path) -> None:
    """Give `source` the name `target` unless that exists; readers see all or nothing."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.chmod(0o444)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
