"""Writing and reading the bodies of documents: typed, strict, and the same on both sides.

A body is a msgspec Struct. `write` gives its canonical bytes; `read` takes only bytes that
write back identically, with every field known and every value in its range.
"""

from functools import lru_cache
from typing import TypeVar

import msgspec

from modelfleet_manifests.canonical import canonical, is_plain, parse
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.errors import FormatError
from modelfleet_manifests.header import Header, is_understood, read_header, unknown_feature

KIB = 1024
MAX_ENVELOPE = {"deployment": 32 * KIB}
MAX_ENVELOPE_OTHER = 16 * KIB
MAX_RELEASE = 64 * KIB

_encoder = msgspec.json.Encoder(order="sorted")

B = TypeVar("B", bound=msgspec.Struct)


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of whatever is part of a document."""


class NotUnderstood(msgspec.Struct, frozen=True, kw_only=True):
    """A verified document that this version must not act on, and must not ignore.

    It replaces the one before it and means: keep what runs, report that the agent is too
    old for `feature`.
    """

    header: Header
    feature: str
    digest: str


def cap_of(kind: str) -> int:
    """Return the most bytes that an envelope of a `kind` may have."""
    return MAX_ENVELOPE.get(kind, MAX_ENVELOPE_OTHER)


def write(body: msgspec.Struct) -> bytes:
    """Return the canonical bytes of a body.

    Raises:
        FormatError: It holds a float or an integer beyond 2^53 - 1.
    """
    return canonical(msgspec.to_builtins(body))


def read(payload: bytes, model: type[B], what: str, *, cap: int) -> B:
    """Return the body whose canonical bytes are `payload`.

    Raises:
        SizeError: Too large or too deep.
        FormatError: Not canonical, a field is missing, unknown or out of range.
    """
    body = _read_plain(payload, model, cap)
    if body is not None:
        return body
    return _convert(parse(payload, what=what, cap=cap), model, what)


def read_directed(payload: bytes, model: type[B], what: str) -> B | NotUnderstood:
    """Return a document of the director, or what of it is not understood.

    Raises:
        SizeError: Too large or too deep.
        FormatError: Not canonical, or not even its header can be read.
    """
    body = _read_plain(payload, model, cap_of(what))
    if body is not None and is_understood(body.header):  # type: ignore[attr-defined]
        return body
    value = parse(payload, what=what, cap=cap_of(what))
    if not isinstance(value, dict):
        raise FormatError(what, "is not an object")
    header = read_header(value, what)
    feature = unknown_feature(value, header)
    if feature is None:
        try:
            return _convert(value, model, what)
        except FormatError as error:
            # Verified, so it is not an attack: a newer server writes what we do not know.
            feature = error.why
    return NotUnderstood(header=header, feature=feature, digest=sha256(payload))


def _read_plain(payload: bytes, model: type[B], cap: int) -> B | None:
    """Return the body at once where nothing about its bytes is unusual, else None.

    It takes only what the longer way takes, and that one says what is wrong with the rest:
    bytes that a body writes back are canonical, without a field that is unknown, missing or
    twice; without a backslash or a long number they hold nothing that is refused.
    """
    if len(payload) > cap or not is_plain(payload):
        return None
    try:
        body = _decoder(model).decode(payload)
    except (msgspec.MsgspecError, ValueError):
        return None
    return body if _encoder.encode(body) == payload else None


@lru_cache(maxsize=16)
def _decoder(model: type[B]) -> msgspec.json.Decoder[B]:
    return msgspec.json.Decoder(model)


def _convert(value: object, model: type[B], what: str) -> B:
    try:
        body = msgspec.convert(value, model)
    except msgspec.ValidationError as error:
        raise FormatError(what, str(error)) from None
    # A default that was written out, or left out, would be a second encoding.
    if msgspec.to_builtins(body) != value:
        raise FormatError(what, "leaves out a field or has one twice")
    return body
