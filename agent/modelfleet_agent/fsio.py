"""Every change that the agent makes to the disk goes through this module.

A change is durable when its call returns: the file is fsynced, then the directory that
names it. Before each system call that changes the disk `_point` is called with the name of
the operation, which is where a kill harness hooks in (`watch`): it may end the process,
or raise the `OSError` that the system call is to fail with.

`OSError` becomes `RetryableError` here: `E_NO_SPACE`, `E_READ_ONLY` or `E_DISK`.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from modelfleet_agent.errors import RetryableError

Watch = Callable[[str, Path], None]

PRIVATE = 0o600
READ_ONLY = 0o400
PRIVATE_DIR = 0o700
BLOCK = 1 << 20
HASHED = 1 << 17  # stays in a core's cache, beside what else runs on this machine
TMP = ".tmp-"

_CODES = {
    errno.ENOSPC: ("E_NO_SPACE", "free some space or lower the disk budget"),
    errno.EDQUOT: ("E_NO_SPACE", "raise the quota of the agent's user"),
    errno.EROFS: ("E_READ_ONLY", "the file system is mounted read-only; check the medium"),
    errno.EIO: ("E_DISK", "the medium fails; check it"),
}
_watchers: list[Watch] = []


def watch(watcher: Watch) -> Callable[[], None]:
    """Call `watcher(operation, path)` before each change; return how to stop that."""
    _watchers.append(watcher)
    return lambda: _watchers.remove(watcher)


def _point(operation: str, path: Path) -> None:
    for watcher in _watchers:
        watcher(operation, path)


@contextmanager
def changing(operation: str, path: Path) -> Iterator[None]:
    """Announce one change of the disk and give its errors a name.

    Raises:
        RetryableError: `E_NO_SPACE`, `E_READ_ONLY` or `E_DISK`.
    """
    try:
        _point(operation, path)
        yield
    except OSError as error:
        code, hint = _CODES.get(error.errno or 0, ("E_DISK", ""))
        what = f"cannot {operation} {path}: {error.strerror or error}"
        raise RetryableError(code, what, hint=hint, path=str(path)) from error


def fsync_dir(path: Path) -> None:
    """Make names in the directory `path` durable."""
    with changing("fsync", path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def private_dir(path: Path) -> Path:
    """Create `path` and its missing parents, only for this user, durably. Idempotent."""
    if not path.is_dir():
        if not path.parent.is_dir():
            private_dir(path.parent)
        with changing("mkdir", path):
            path.mkdir(mode=PRIVATE_DIR, exist_ok=True)
        fsync_dir(path.parent)
    return path


def write_atomic(
    path: Path, data: bytes, *, mode: int = PRIVATE, durable: bool = True
) -> None:
    """Replace the content of `path`: readers see the old bytes or the new ones, whole.

    What is not `durable` a power cut may tear: for what is verified whenever it is read.
    """
    tmp = path.with_name(f"{TMP}{path.name}")
    remove(tmp, durable=False)  # of a power cut; a read-only one could not be opened again
    with changing("create", tmp):
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file, changing("write", tmp):
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    rename(tmp, path, durable=durable)


def rename(old: Path, new: Path, *, durable: bool = True) -> None:
    """Move `old` over `new` and make both directories durable. `old` is fsynced already."""
    with changing("rename", new):
        old.replace(new)
    if not durable:
        return
    fsync_dir(new.parent)
    if old.parent != new.parent:
        fsync_dir(old.parent)


def flip_link(link: Path, target: str) -> None:
    """Point the symbolic link `link` at `target`, in one step. Idempotent."""
    tmp = link.with_name(f"{TMP}{link.name}")
    remove(tmp, durable=False)
    with changing("symlink", tmp):
        tmp.symlink_to(target)
    rename(tmp, link)


def hard_link(source: Path, name: Path) -> None:
    """Give the file `source` another name, replacing what had that name. Idempotent."""
    if name.exists() and name.samefile(source):
        return
    tmp = name.with_name(f"{TMP}{name.name}")
    remove(tmp, durable=False)
    with changing("link", tmp):
        tmp.hardlink_to(source)
    rename(tmp, name)


def remove(path: Path, *, durable: bool = True) -> None:
    """Remove one file or link; one that is not there is fine."""
    if not path.is_symlink() and not path.exists():
        return
    with changing("unlink", path):
        path.unlink(missing_ok=True)
    if durable:
        fsync_dir(path.parent)


def remove_tree(path: Path) -> None:
    """Remove a directory with its files; one that is not there is fine."""
    if not path.is_dir():
        return
    with changing("rmtree", path):
        shutil.rmtree(path)
    fsync_dir(path.parent)


def seal(path: Path, mode: int = READ_ONLY) -> None:
    """Make the bytes of `path` durable and the file read-only."""
    with changing("seal", path):
        path.chmod(mode)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write `data` over the bytes at `offset` of an existing file, durably.

    The file keeps its blocks, so this works on a full disk; a power cut may tear it.
    """
    with changing("write", path):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            view = memoryview(data)
            while view:
                done = os.pwrite(fd, view, offset)
                view, offset = view[done:], offset + done
            os.fsync(fd)
        finally:
            os.close(fd)


class Appender:
    """A file that only grows: a partial download, a journal.

    `write` may leave a torn tail after a power cut; what `sync` returned for is whole.
    """

    def __init__(self, path: Path, *, keep: int | None = None) -> None:
        """Open `path`, creating it; cut it to its first `keep` bytes where given."""
        self.path = path
        fresh = not path.exists()
        with changing("open", path):
            fd = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE
            )
        self._file = os.fdopen(fd, "ab", buffering=0)
        if fresh:
            fsync_dir(path.parent)
        if keep is not None and keep < self.length:
            self.truncate(keep)

    @property
    def length(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._file.fileno()).st_size

    def write(self, data: bytes) -> None:
        """Append all of `data`."""
        view = memoryview(data)
        while view:
            with changing("write", self.path):
                view = view[self._file.write(view) :]

    def truncate(self, length: int) -> None:
        """Cut the file to its first `length` bytes."""
        with changing("truncate", self.path):
            os.ftruncate(self._file.fileno(), length)

    def sync(self) -> None:
        """Make everything written so far durable."""
        with changing("fsync", self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing more is synced."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def hash_file(path: Path) -> tuple[str, int]:
    """Return SHA-256 (64 hex) and length in bytes of `path`, read in blocks.

    Raises:
        OSError: It cannot be read; a missing file is `FileNotFoundError`.
    """
    with path.open("rb") as file:
        return hash_fd(file.fileno())


def hash_fd(fd: int, *, block: int = HASHED) -> tuple[str, int]:
    """Return SHA-256 (64 hex) and length of the open file `fd`; its position stays.

    Between blocks of `block` bytes it asks for the interpreter.
    """
    digest, offset = hashlib.sha256(), 0
    room = memoryview(bytearray(block))
    while read := os.preadv(fd, [room], offset):
        digest.update(room[:read])
        offset += read
    return digest.hexdigest(), offset


def free_bytes(path: Path) -> int:
    """Return the bytes that this user may still write on the file system of `path`."""
    return shutil.disk_usage(path).free


def require_space(path: Path, need: int, *, reserve: int = 0) -> None:
    """Check before writing that `need` bytes fit and `reserve` bytes stay free.

    Raises:
        RetryableError: `E_NO_SPACE`, with `need`, `free` and `reserve`.
    """
    free = free_bytes(path)
    if free - need < reserve:
        what = (
            f"{path} has {free:,} bytes free; {need:,} are needed and {reserve:,} stay free"
        )
        raise RetryableError(
            "E_NO_SPACE",
            what,
            hint="free some space or lower the disk budget",
            path=str(path),
            need=need,
            free=free,
            reserve=reserve,
        )
