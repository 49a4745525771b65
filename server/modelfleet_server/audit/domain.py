"""What an entry's digest covers; pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

GENESIS = "0" * 64
"""The digest before the first entry."""


class Fields(NamedTuple):
    """Everything of an entry but its own digest. `detail` is canonical JSON text."""

    seq: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: str
    previous: str


def canonical_text(value: Mapping[str, object]) -> str:
    """Return `value` as JSON with sorted keys and no spaces.

    Raises:
        TypeError: It holds something that is not JSON.
        ValueError: It holds NaN or an infinity.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest_of(fields: Fields) -> str:
    """Return the SHA-256, 64 hexadecimal digits, of an entry."""
    return hashlib.sha256(canonical_text(fields._asdict()).encode()).hexdigest()
