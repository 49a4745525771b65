"""The time token: what time it is, told to one device that asked with a nonce.

A device believes its own clock in nothing that trust depends on: it sends 128 random bits,
and the role `time`, which officers delegate, signs them together with the time. A token
that was recorded earlier carries another nonce, and one that is held back counts from when
the device asked.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from modelfleet_manifests.document import Body, read, write
from modelfleet_manifests.envelope import seal, unseal
from modelfleet_manifests.errors import AddressError
from modelfleet_manifests.header import Hex32, Hex64, Millis
from modelfleet_manifests.keys import PrivateKey, PublicKey

KIND = "time"
MAX_BYTES = 4096
LIFE_MS = 14 * 86_400_000
"""How long a device goes by a token, measured by its monotonic clock."""


class TimeToken(Body, kw_only=True, frozen=True):
    """The document.

    Attributes:
        fleet: SHA-256 of the first root.
        nonce: Of the device that asks.
        time: When it was signed, Unix ms.
    """

    type: Literal["time"] = "time"
    v: Annotated[int, Meta(ge=0, le=0)] = 0
    fleet: Hex64
    nonce: Hex32
    time: Millis


def write_token(fleet: str, nonce: str, time_ms: int) -> bytes:
    """Return what is signed.

    Raises:
        FormatError: The nonce is none, or a value is out of range.
    """
    payload = write(TimeToken(fleet=fleet, nonce=nonce, time=time_ms))
    read(payload, TimeToken, KIND, cap=MAX_BYTES)
    return payload


def seal_token(payload: bytes, keys: Sequence[PrivateKey]) -> bytes:
    """Return the signed token."""
    return seal(KIND, payload, keys)


def open_token(
    envelope: bytes, keys: Collection[PublicKey], threshold: int, *, fleet: str, nonce: str
) -> int:
    """Return the time that a token tells, Unix ms.

    Args:
        envelope: Untrusted bytes.
        keys: Of the role `time`, as the verified targets name them.
        threshold: How many of them must have signed.
        fleet: SHA-256 of the fleet's first root.
        nonce: That the device sent.

    Raises:
        SizeError, FormatError: It is no token.
        SignatureError: Too few of `keys` signed it.
        AddressError: It is of another fleet, or answers another question.
    """
    payload = unseal(envelope, KIND, keys, cap=MAX_BYTES, threshold=threshold)
    token = read(payload, TimeToken, KIND, cap=MAX_BYTES)
    if token.fleet != fleet:
        raise AddressError("time token", "is of another fleet")
    if token.nonce != nonce:
        raise AddressError("time token", "answers another question")
    return token.time
