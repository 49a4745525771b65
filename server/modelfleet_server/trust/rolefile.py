"""The files of roles: from bytes to python-tuf's metadata and back; pure.

What is composed and proposed is the *signed part* of a role; `payload_of` gives the
canonical bytes that are signed, `assemble` puts the signatures beside them.
"""

import json
from collections.abc import Mapping
from typing import Any

from securesystemslib.signer import Signature
from tuf.api.metadata import Metadata, Signed, Targets

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.errors import FormatError


def payload_of(signed: Signed) -> bytes:
    """Return the canonical bytes that are signed.

    Raises:
        FormatError: A field holds something that canonical JSON does not have.
    """
    return canonical(signed.to_dict())


def parse_signed(payload: bytes) -> Signed:
    """Return the signed part of metadata from its canonical bytes.

    Raises:
        FormatError: It is no TUF metadata.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_dict(
            {"signed": json.loads(payload), "signatures": []}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError("metadata", f"is not that of TUF ({error!r})") from None
    signed: Signed = metadata.signed
    return signed


def parse_targets(payload: bytes) -> Targets:
    """Return a targets role from its canonical bytes.

    Raises:
        FormatError: It is none.
    """
    signed = parse_signed(payload)
    if not isinstance(signed, Targets):
        raise FormatError("metadata", f"is of type {signed.type}, not of targets")
    return signed


def assemble(payload: bytes, signatures: Mapping[str, str]) -> bytes:
    """Return the file of a role: its signed part and the signatures by key id."""
    metadata: Metadata[Any] = Metadata(
        parse_signed(payload),
        {key_id: Signature(key_id, text) for key_id, text in sorted(signatures.items())},
    )
    return metadata.to_bytes()


def read_file(data: bytes) -> Metadata[Any]:
    """Return the metadata in a role's file."""
    return Metadata.from_bytes(data)
