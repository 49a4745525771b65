"""Content-addressed files and the records of releases."""

import stat
from collections.abc import Iterator
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.errors import RefusedError, RetryableError, UsageError
from modelfleet_agent.store.record import (
    FileEntry,
    Placed,
    PlacedFile,
    Record,
    decode,
    encode,
)
from modelfleet_manifests.digests import is_digest


class Store:
    """Files by digest below one directory; a name in `files` means verified bytes.

    Nothing is ever changed in place, since weights are mapped by the runtime.
    """

    def __init__(self, root: Path) -> None:
        """Create what is missing below `root`, the agent's directory."""
        self.root = fsio.private_dir(root)
        self.files = fsio.private_dir(root / "store")
        self.partials = fsio.private_dir(root / "incoming")
        self.releases = fsio.private_dir(root / "releases")

    def recover(self) -> None:
        """Remove what a power cut left half made. Called once at boot."""
        for folder in (self.files, self.partials, self.releases):
            for path in folder.glob(f"{fsio.TMP}*"):
                fsio.remove(path)

    # files

    def path_of(self, digest: str) -> Path:
        """Return where the file `digest` lies, or would lie.

        Raises:
            UsageError: `E_NAME`: not a SHA-256; it might be a path that climbs out.
        """
        if not is_digest(digest):
            raise UsageError("E_NAME", f"{digest!r} is not a SHA-256")
        return self.files / digest

    def has(self, entry: FileEntry) -> bool:
        """Say whether the file is there with the right length; its bytes are not read."""
        try:  # another thread may remove it meanwhile
            found = self.path_of(entry.digest).stat()
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == entry.length

    def verify(self, digest: str) -> bool:
        """Read the file `digest` again and say whether its bytes still match."""
        try:
            return fsio.hash_file(self.path_of(digest))[0] == digest
        except OSError:
            return False  # missing and unreadable are both answered by a new download

    def incoming(self, digest: str) -> Path:
        """Return where a partial download of `digest` belongs (`fsio.Appender`)."""
        return self.partials / self.path_of(digest).name

    def adopt(self, digest: str, length: int, source: Path | None = None) -> Path:
        """Take a complete download into the store; the caller has synced it.

        Args:
            digest: What the bytes must hash to.
            length: Their number.
            source: The complete file, on the same file system; `incoming(digest)` where
                not given. It is gone afterwards, whether it was taken or refused.

        Raises:
            RefusedError: `E_DIGEST`: other bytes. The file is removed.
            RetryableError: `E_MISSING`: there is no such file.
        """
        target = self.path_of(digest)
        source = source or self.incoming(digest)
        if not source.exists():
            if self.has(FileEntry(name=digest, digest=digest, length=length)):
                return target  # adopted before a power cut
            raise RetryableError("E_MISSING", f"{source} is not there", path=str(source))
        found, size = fsio.hash_file(source)
        if (found, size) != (digest, length):
            fsio.remove(source)
            raise RefusedError(
                "E_DIGEST",
                f"{source.name} holds {size} bytes with digest {found}, "
                f"not the signed {length} bytes with digest {digest}",
                expected=digest,
                found=found,
            )
        fsio.seal(source)
        fsio.rename(source, target)
        return target

    def discard(self, digest: str) -> None:
        """Remove a file, so that it is fetched again: it was found altered. Idempotent."""
        fsio.remove(self.path_of(digest))

    def missing(self, record: Record) -> list[FileEntry]:
        """Return the files of `record` that must be fetched still."""
        return [entry for entry in record.wanted if not self.has(entry)]

    # records

    def put(self, record: Record) -> Path:
        """Write the record of a verified release. Idempotent.

        Returns:
            Its path, for `Slots.advance`.
        """
        path = self.record_path(record.key)
        data = encode(record)
        if not path.is_file() or path.read_bytes() != data:
            fsio.write_atomic(path, data, mode=fsio.READ_ONLY)
        return path

    def record_path(self, key: str) -> Path:
        """Return where the record `key` lies, or would lie."""
        return self.releases / f"{key}.json"

    def get(self, key: str) -> Record | None:
        """Return the record `key`, or None where there is none.

        Raises:
            RetryableError: `E_RECORD`: it is damaged.
        """
        path = self.record_path(key)
        try:
            return decode(path.read_bytes(), name=path)
        except FileNotFoundError:
            return None

    def records(self) -> Iterator[Record]:
        """Yield every sound record, in no order; damaged ones are left to `sweep`."""
        for path in sorted(self.releases.glob("[0-9a-f]*.json")):
            try:
                yield decode(path.read_bytes(), name=path)
            except (RetryableError, FileNotFoundError):
                continue  # damaged, or removed by another thread

    def place(self, record: Record) -> Placed:
        """Return `record` with the paths that a child opens.

        A model of several files needs them under their own names, side by side: they are
        hard links, since ONNX Runtime refuses symbolic ones that lead elsewhere.

        Raises:
            RetryableError: `E_MISSING`: a file is not in the store; fetch it.
        """
        golden = record.golden
        for entry in self.missing(record):
            raise RetryableError(
                "E_MISSING",
                f"{entry.name} of {record.model} {record.version} is not in the store",
                digest=entry.digest,
            )
        if len(record.files) == 1:
            paths = [self.path_of(record.files[0].digest)]
        else:
            paths = self._link(record)
        return Placed(
            record=record,
            files=tuple(map(_placed, paths, record.files)),
            golden=_placed(self.path_of(golden.digest), golden) if golden else None,
        )

    def _link(self, record: Record) -> list[Path]:
        folder = fsio.private_dir(self.releases / record.key)
        paths = [folder / entry.name for entry in record.files]
        for path, entry in zip(paths, record.files, strict=True):
            fsio.hard_link(self.path_of(entry.digest), path)
        return paths


def _placed(path: Path, entry: FileEntry) -> PlacedFile:
    return PlacedFile(path=str(path), digest=entry.digest, length=entry.length)
