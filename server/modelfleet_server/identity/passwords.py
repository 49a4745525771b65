"""Argon2id, a few at a time."""

import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_hasher = PasswordHasher()
# each takes 64 MiB: a crowd at the login must not take the machine's memory
_places = threading.BoundedSemaphore(4)
_nobody = ""


def hash_password(password: str) -> str:
    """Return the Argon2id hash with its parameters and salt; takes tens of ms."""
    with _places:
        return _hasher.hash(password)


def verify_password(stored: str | None, password: str) -> bool:
    """Say whether `password` is the one; as slow for an unknown user (None)."""
    with _places:
        try:
            _hasher.verify(stored or _decoy(), password)
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


def _decoy() -> str:
    global _nobody  # noqa: PLW0603 made once, when first needed
    if not _nobody:
        _nobody = _hasher.hash("nobody has this password")
    return _nobody
