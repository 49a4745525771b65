"""Passwords and passphrases: from a file, the environment, or asked for."""

import getpass
import os
import sys
from pathlib import Path

from modelfleet_server.kit.errors import InvalidError

PASSPHRASE = "MODELFLEET_PASSPHRASE"  # noqa: S105 the name of a variable
PASSWORD = "MODELFLEET_PASSWORD"  # noqa: S105
MAX_SECRET = 4096


def read_secret_file(path: Path) -> str:
    """Return the first line of a file.

    Raises:
        InvalidError: It cannot be read, or its first line is empty.
    """
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline(MAX_SECRET).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise InvalidError(f"the file {path} cannot be read: {why}") from None
    if not line:
        raise InvalidError(f"the first line of {path} is empty", "Write the secret there.")
    return line


def find_passphrase(file: Path | None, *, new: bool = False) -> str:
    """Return the approver's passphrase; asks twice for a new one."""
    return _find("passphrase", "--passphrase-file", PASSPHRASE, file, new=new)


def find_password(file: Path | None, *, new: bool = False) -> str:
    """Return a user's password; asks twice for a new one."""
    return _find("password", "--password-file", PASSWORD, file, new=new)


def _find(what: str, option: str, variable: str, file: Path | None, *, new: bool) -> str:
    if file is not None:
        return read_secret_file(file)
    if value := os.environ.get(variable):
        return value
    if not sys.stdin.isatty():
        raise InvalidError(
            f"the {what} is missing, and there is nobody to ask",
            f"Give it by {option} FILE, or in {variable}.",
        )
    given = getpass.getpass(f"{what}: ")
    if new and getpass.getpass(f"{what} once more: ") != given:
        raise InvalidError(f"the two {what}s differ", "Try again.")
    return given
