"""SHA-256 as 64 lower-case hexadecimal digits: the only digest that travels."""

import hashlib
import re
from collections.abc import Iterable

HEX64 = r"^[0-9a-f]{64}$"
HEX32 = r"^[0-9a-f]{32}$"
_DIGEST = re.compile(HEX64)


def sha256(data: bytes) -> str:
    """Return the digest of `data`."""
    return hashlib.sha256(data).hexdigest()


EMPTY = sha256(b"")
"""Digest of the empty file, which every device has: a delta from it is a file, packed."""


def sha256_stream(chunks: Iterable[bytes]) -> tuple[str, int]:
    """Return the digest and the length in bytes of what `chunks` yields."""
    state, length = hashlib.sha256(), 0
    for chunk in chunks:
        state.update(chunk)
        length += len(chunk)
    return state.hexdigest(), length


def is_digest(text: str) -> bool:
    """Say whether `text` is written as a digest; "A…" and short forms are not."""
    return _DIGEST.fullmatch(text) is not None
