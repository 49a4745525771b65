"""Which bytes of a blob a request wants (RFC 9110 §14); pure."""

import re
from typing import NamedTuple

_SINGLE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class Span(NamedTuple):
    """Bytes `start` up to and without `end`."""

    start: int
    end: int


class UnsatisfiableError(ValueError):
    """The range begins behind the last byte."""


def wanted_span(header: str | None, length: int) -> Span | None:
    """Return the single range that `header` asks for, None for the whole blob.

    A header that is malformed or names several ranges is ignored, as the RFC allows.

    Args:
        header: The value of `Range`.
        length: Size of the blob in bytes.

    Raises:
        UnsatisfiableError: No byte of the blob lies in the range.
    """
    found = _SINGLE.fullmatch((header or "").strip())
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        span = Span(max(0, length - int(last)), length)
    elif last and int(last) < int(first):
        return None
    else:
        span = Span(int(first), min(length, int(last) + 1) if last else length)
    if span.start >= span.end:
        raise UnsatisfiableError
    return span
