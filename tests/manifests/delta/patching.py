"""Encode and apply in memory, the way a device would."""

import hashlib
import io

from modelfleet_manifests import delta


def apply_patch(old: bytes, patch: bytes, new: bytes) -> bytes:
    """Apply `patch` against the digest and length of `new`, as if signed."""
    out: list[bytes] = []
    delta.apply(
        lambda offset, length: old[offset : offset + length],
        io.BytesIO(patch).read,
        lambda piece: out.append(bytes(piece)),
        new_digest=hashlib.sha256(new).hexdigest(),
        new_length=len(new),
    )
    return b"".join(out)


def round_trip(old: bytes, new: bytes) -> bytes:
    """Return the patch, once it has been shown to give `new` back."""
    patch = delta.encode(old, new)
    assert apply_patch(old, patch, new) == new
    return patch
