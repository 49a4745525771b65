"""The one way to write a document as bytes, and the strict way to read it back.

Canonical JSON as securesystemslib writes it (keys sorted, no white space, no floats, only
quote and backslash escaped). Reading refuses whatever does not write back to the same
bytes, so a document has exactly one encoding and its digest names it.
"""

import json
import re
from typing import NoReturn

from modelfleet_manifests.errors import FormatError, SizeError

MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1
_REFUSED = re.compile("[\x00-\x1f\ud800-\udfff]")
# four patterns, for each begins with a letter that the search can skip to
_LONG = tuple(re.compile(rb"%b[0-9]{16}" % sign) for sign in (b":", b",", rb"\[", b"-"))
_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
).encode


def canonical(value: object) -> bytes:
    """Return the canonical bytes of `value`.

    Raises:
        FormatError: `value` holds a float, a key that is no string, an integer beyond
            ±(2^53 - 1), a control character, or something that is not JSON.
    """
    _check(value, 0)
    # for what passed the check these are the bytes of securesystemslib, ten times faster
    return _encode(value).encode()


def encode(value: object) -> str:
    """Return the canonical text of a value that was read by a strict parser.

    Nothing is checked: of anything else it may be text that nobody signed.
    """
    return _encode(value)


def parse(data: bytes, *, what: str, cap: int) -> object:
    """Return the value whose canonical bytes are `data`.

    Args:
        data: The bytes, untrusted or just verified.
        what: Named in errors.
        cap: The most bytes that are looked at.

    Raises:
        SizeError: More than `cap` bytes, or nested deeper than 32.
        FormatError: Not UTF-8, not JSON, duplicate keys, a float, NaN, or not canonical.
    """
    if len(data) > cap:
        raise SizeError(what, f"{len(data)} bytes, at most {cap} are allowed")
    value = _load(data, what)
    try:
        if is_plain(data):
            if isinstance(value, dict | list):
                _check_depth(value)
            same = _encode(value).encode() == data
        else:
            same = canonical(value) == data
    except FormatError as error:
        raise FormatError(what, error.why) from None
    if not same:
        raise FormatError(what, "is not canonical JSON")
    return value


def is_plain(data: bytes) -> bool:
    """Say whether values read from `data` need no check but of their depth.

    Without a backslash no string holds a control character or half a pair: JSON and UTF-8
    forbid both. Without sixteen digits in a row where a number may stand none is too large.
    """
    if b"\\" in data or data[:1].isdigit():
        return False
    return not any(long.search(data) for long in _LONG)


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for one in level
            for item in (one.values() if type(one) is dict else one)  # type: ignore[attr-defined]  # both can be iterated
            if type(item) is dict or type(item) is list
        ]
        if not level:
            return
    if any(level):
        raise SizeError("document", f"is nested deeper than {MAX_DEPTH}")


class _NumberError(Exception):
    """A number that is no integer."""


def _refuse(text: str) -> NoReturn:
    raise _NumberError(text)


_decode = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse).decode


def _load(data: bytes, what: str) -> object:
    try:
        return _decode(data.decode())
    except _NumberError as error:
        raise FormatError(
            what, f"holds the number {error}; only integers are allowed"
        ) from None
    except RecursionError:
        raise SizeError(what, f"is nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:
        raise FormatError(what, f"is not JSON ({error})") from None


def _check(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise SizeError("document", f"is nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise FormatError("document", f"has the key {key!r}, which is no string")
            _check_text(key)
            _check(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
    else:
        _check_scalar(value)


def _check_text(value: str) -> None:
    if _REFUSED.search(value):
        raise FormatError("document", "holds text with a control character")


def _check_scalar(value: object) -> None:
    if isinstance(value, str):
        _check_text(value)
    if isinstance(value, float):
        raise FormatError("document", f"holds the float {value!r}; write a decimal string")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise FormatError("document", f"holds {value}, beyond 2^53 - 1")
    if value is not None and not isinstance(value, str | int):
        raise FormatError("document", f"holds a {type(value).__name__}")
