"""Files that hold secrets: readable by their owner only, written whole or not at all."""

import os
import stat
from pathlib import Path

from modelfleet_server.kit.errors import ConflictError, InvalidError, NotFoundError
from modelfleet_server.kit.ids import new_id

OWNER_ONLY = 0o600
MAX_BYTES = 64 * 1024


def write_secret(path: Path, data: bytes) -> None:
    """Create a file with `data`, mode 0600; never replace one.

    Raises:
        ConflictError: There is a file already.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{new_id()}")
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename, fails where something is there
    except FileExistsError:
        raise ConflictError(
            f"the key file {path} exists already",
            "Keys are never overwritten: name another file, or move this one away.",
            path=str(path),
        ) from None
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_secret(path: Path) -> bytes:
    """Return the contents of a key file.

    Raises:
        NotFoundError: There is none.
        InvalidError: Others than its owner may read it, or it is too large to be one.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no key file {path}",
            "It is written by: modelfleet init --solo.",
            path=str(path),
        ) from None
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InvalidError(
            f"the key file {path} can be read by others than its owner",
            f"Run: chmod 600 {path}; if others had access, replace the keys.",
            path=str(path),
        )
    if found.st_size > MAX_BYTES:
        raise InvalidError(f"the key file {path} is too large to be one", path=str(path))
    return path.read_bytes()
