"""Files of a model: held open, and proven to be what was signed before anything answers."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.store.record import PlacedFile

# A load that asks for the interpreter and does not get a processor holds up every answer.
BLOCK = 4 << 20


class OpenFile:
    """A file of a model, held open so that it can be hashed while it is mapped."""

    def __init__(self, file: PlacedFile, *, proven: bool = True) -> None:
        """Open and hash; where not `proven` yet, `prove` is to be called.

        Raises:
            RetryableError: `E_MISSING`: it cannot be opened; `E_DISK`: it cannot be read.
            RefusedError: `E_DIGEST`: other bytes than were signed.
        """
        self.path = Path(file.path)
        self.digest = file.digest
        self._length = file.length
        try:
            self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            what = f"cannot open {file.path}: {error.strerror}"
            raise RetryableError("E_MISSING", what, path=file.path) from error
        if proven:
            try:
                self.prove()
            except (RefusedError, RetryableError):
                self.close()
                raise

    def prove(self) -> None:
        """Hash it.

        Raises:
            RetryableError: `E_DISK`: it cannot be read.
            RefusedError: `E_DIGEST`: other bytes than were signed.
        """
        try:
            found, length = fsio.hash_fd(self.fd, block=BLOCK)
        except OSError as error:
            what = f"cannot read {self.path}: {error.strerror}"
            raise RetryableError("E_DISK", what) from error
        if (found, length) != (self.digest, self._length):
            what = f"{self.path} holds {length} bytes with digest {found}"
            raise RefusedError(
                "E_DIGEST",
                f"{what}, not {self.digest}",
                expected=self.digest,
                found=found,
            )

    def digests(self) -> tuple[str, str]:
        """Return the digests of what is open and of what its path names ("": nothing)."""
        mapped = fsio.hash_fd(self.fd, block=BLOCK)[0]
        try:
            there, held = self.path.stat(), os.fstat(self.fd)
            if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino):
                return mapped, mapped
            return mapped, fsio.hash_file(self.path)[0]
        except OSError:
            return mapped, ""

    def close(self) -> None:
        """Let the file go."""
        os.close(self.fd)


def open_all(files: Sequence[PlacedFile]) -> list[OpenFile]:
    """Return them open, none of them proven.

    Raises:
        RetryableError: `E_MISSING`; then none is left open.
    """
    opened: list[OpenFile] = []
    try:
        for file in files:
            opened.append(OpenFile(file, proven=False))  # noqa: PERF401 - closed when a later one fails
    except (RefusedError, RetryableError):
        for done in opened:
            done.close()
        raise
    return opened


@contextlib.contextmanager
def proving(files: Sequence[OpenFile], *, beside: bool) -> Iterator[None]:
    """Hash `files` before or beside the block; an altered one is why the block failed.

    Raises:
        RefusedError: `E_DIGEST`.
        RetryableError: `E_DISK`: one cannot be read.
    """
    if not beside:
        _prove(files)
        yield
        return
    with ThreadPoolExecutor(1, thread_name_prefix="hash") as pool:
        proof = pool.submit(_prove, files)
        try:
            yield
        finally:
            proof.result()


def _prove(files: Sequence[OpenFile]) -> None:
    for file in files:
        file.prove()
