"""A lock file per executor: on the machine where it ran, its end is known at once."""

import fcntl
from pathlib import Path
from typing import IO


class ExecutorLock:
    """Held from `take` until this process ends, however it ends.

    Args:
        folder: Where the locks of this home are.
        executor: Whose lock.
    """

    def __init__(self, folder: Path, executor: str) -> None:
        self._path = folder / f"{executor}.lock"
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Make the file and lock it."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = self._path.open("wb")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Let go and remove it."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()


def is_locked(folder: Path, executor: str) -> bool | None:
    """Say whether an executor's lock is held; None if it has none in this home."""
    try:
        with (folder / f"{executor}.lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except FileNotFoundError:
        return None


def remove(folder: Path, executor: str) -> None:
    """Remove the file of an executor that is dead."""
    (folder / f"{executor}.lock").unlink(missing_ok=True)
