"""DSSE envelopes: verify the bytes first, then parse them.

Source: the DSSE v1 specification (secure-systems-lab/dsse), with JSON envelopes that are
canonical themselves, so that an envelope has one encoding too.
"""

import base64
import binascii
from collections.abc import Collection, Sequence

import msgspec

from modelfleet_manifests.canonical import canonical, is_plain, parse
from modelfleet_manifests.errors import FormatError, SignatureError
from modelfleet_manifests.keys import SIGNATURE_BYTES, PrivateKey, PublicKey

MAX_SIGNATURES = 4


def payload_type(kind: str) -> str:
    """Return the media type of a document, for example of `deployment`."""
    return f"application/vnd.modelfleet.{kind}+json"


def encode_pae(media_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: what is signed."""
    kind = media_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(kind: str, payload: bytes, keys: Sequence[PrivateKey]) -> bytes:
    """Return the envelope of `payload`, signed by each of `keys` (1 to 4)."""
    message = encode_pae(payload_type(kind), payload)
    return wrap(kind, payload, [(key.public.key_id, key.sign(message)) for key in keys])


def wrap(kind: str, payload: bytes, signatures: Sequence[tuple[str, bytes]]) -> bytes:
    """Return the envelope of `payload` with signatures that were made elsewhere.

    Args:
        kind: The document's type, for example `assignment`.
        payload: What was signed, as `encode_pae` says.
        signatures: 1 to 4 pairs of key id and signature.
    """
    return canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type(kind),
            "signatures": [
                {"keyid": key_id, "sig": base64.b64encode(signature).decode()}
                for key_id, signature in signatures
            ],
        }
    )


def unseal(
    envelope: bytes, kind: str, keys: Collection[PublicKey], *, cap: int, threshold: int = 1
) -> bytes:
    """Return the payload once `threshold` of `keys` signed it as a `kind`.

    A key counts once, however often it signed and under however many ids.

    Args:
        envelope: Untrusted bytes.
        kind: The document's type, for example `assignment`.
        keys: The keys that may sign it.
        cap: The most bytes of the envelope.
        threshold: How many different keys must have signed.

    Raises:
        SizeError: The envelope is larger than `cap`.
        FormatError: It is not an envelope of this kind.
        SignatureError: Too few of `keys` signed it.
    """
    payload, signatures = _open(envelope, kind, cap)
    message = encode_pae(payload_type(kind), payload)
    by_id = {key.key_id: key for key in keys}
    signers: set[str] = set()
    for key_id, signature in signatures:
        key = by_id.get(key_id)
        if key is None:
            continue
        try:
            key.verify(message, signature)
        except SignatureError:
            continue  # another signature of the envelope may still do
        signers.add(key.hex)
    if len(signers) < max(threshold, 1):
        raise SignatureError(
            kind, f"{len(signers)} of {max(threshold, 1)} valid signatures"
        )
    return payload


def peek(envelope: bytes, kind: str, *, cap: int) -> bytes:
    """Return the payload of an envelope *without* checking any signature.

    Only for finding out which key to check with; never act on it.

    Raises:
        SizeError: The envelope is larger than `cap`.
        FormatError: It is not an envelope of this kind.
    """
    return _open(envelope, kind, cap)[0]


class _Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keyid: str
    sig: bytes


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An envelope; bytes are base64 in it."""

    payload: bytes
    payloadType: str  # noqa: N815 - DSSE's name
    signatures: list[_Signed]


_decoder = msgspec.json.Decoder(_Plain)
_encoder = msgspec.json.Encoder(order="sorted")


def _open_plain(envelope: bytes, kind: str) -> _Plain | None:
    """Return an envelope at once where nothing about its bytes is unusual, else None.

    It takes only what the longer way takes, and that one says what is wrong with the rest.
    """
    if not is_plain(envelope):
        return None
    try:
        found = _decoder.decode(envelope)
    except (msgspec.MsgspecError, ValueError):
        return None
    fits = found.payloadType == payload_type(kind)
    fits = fits and 1 <= len(found.signatures) <= MAX_SIGNATURES
    fits = fits and all(len(one.sig) == SIGNATURE_BYTES for one in found.signatures)
    return found if fits and _encoder.encode(found) == envelope else None


def _open(envelope: bytes, kind: str, cap: int) -> tuple[bytes, list[tuple[str, bytes]]]:
    found = _open_plain(envelope, kind) if len(envelope) <= cap else None
    if found is not None:
        return found.payload, [(one.keyid, one.sig) for one in found.signatures]
    value = parse(envelope, what=f"{kind} envelope", cap=cap)
    if not isinstance(value, dict) or set(value) != {
        "payload",
        "payloadType",
        "signatures",
    }:
        raise FormatError(f"{kind} envelope", "is not a DSSE envelope")
    if value["payloadType"] != payload_type(kind):
        raise FormatError(f"{kind} envelope", f"holds a {value['payloadType']!r}")
    signatures = value["signatures"]
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise FormatError(f"{kind} envelope", f"needs 1 to {MAX_SIGNATURES} signatures")
    return (
        _decode(value["payload"], kind),
        [_read_signature(item, kind) for item in signatures],
    )


def _read_signature(item: object, kind: str) -> tuple[str, bytes]:
    if not isinstance(item, dict) or set(item) != {"keyid", "sig"}:
        raise FormatError(f"{kind} envelope", "has a signature that is not {keyid, sig}")
    raw = _decode(item["sig"], kind)
    if not isinstance(item["keyid"], str) or len(raw) != SIGNATURE_BYTES:
        raise FormatError(f"{kind} envelope", "has a signature that is not Ed25519")
    return item["keyid"], raw


def _decode(text: object, kind: str) -> bytes:
    # Python's decoder skips what it does not know: only what encodes back is taken.
    try:
        raw = base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"{kind} envelope", "holds broken base64") from None
    if base64.b64encode(raw).decode() != text:
        raise FormatError(f"{kind} envelope", "holds base64 with another encoding")
    return raw
