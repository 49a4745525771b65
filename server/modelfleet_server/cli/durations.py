"""Lengths of time as people write them."""

import re

from modelfleet_server.kit.errors import InvalidError

_TEXT = re.compile(r"(\d{1,9})\s*(ms|s|min|m|h|d)")
_UNITS_MS = {
    "ms": 1,
    "s": 1000,
    "min": 60_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}


def parse_duration(text: str) -> int:
    """Return milliseconds: `90s`, `10min`, `2h`, `1d`.

    Raises:
        InvalidError: It is not written so.
    """
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise InvalidError(
            f"{text!r} is not a length of time", "Write 500ms, 90s, 10min, 2h or 1d."
        )
    return int(found[1]) * _UNITS_MS[found[2]]
