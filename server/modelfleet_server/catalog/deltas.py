"""Which file can be made from which, by a patch that is a blob."""

from dataclasses import dataclass

from sqlalchemy import or_
from sqlmodel import Session, col, select

from modelfleet_manifests.digests import is_digest
from modelfleet_server.blobs.service import Blob, keep
from modelfleet_server.catalog.tables import DeltaOffer, ModelVersion, VersionVariant
from modelfleet_server.kit.errors import InvalidError


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch: its blob, its method in words, and the bytes that applying it needs."""

    blob: Blob
    method: str
    memory: int


def offer_delta(
    session: Session, new: str, old: str, patch: Patch, *, now_ms: int
) -> DeltaOffer:
    """Offer a patch from the file `old` to the file `new`; a shorter one replaces a longer.

    Args:
        session: Writing.
        new: SHA-256 of the file that comes out.
        old: SHA-256 of the file that the device has.
        patch: Its bytes are in the blob store.
        now_ms: Unix milliseconds.

    Raises:
        InvalidError: Not two different digests.
    """
    if not is_digest(new) or not is_digest(old) or new == old:
        raise InvalidError(f"there is no delta from {old!r} to {new!r}")
    held = find_delta(session, new, old)
    if held is not None and held.length <= patch.blob.length:
        return held
    keep(session, patch.blob, at_ms=now_ms)
    offer = held or DeltaOffer(
        new=new, old=old, blob="", length=0, method="", memory=0, created_ms=now_ms
    )
    offer.blob, offer.length = patch.blob.digest, patch.blob.length
    offer.method, offer.memory, offer.created_ms = patch.method, patch.memory, now_ms
    session.add(offer)
    session.flush()
    return offer


def withdraw_delta(session: Session, new: str, old: str) -> str | None:
    """Offer this patch no more; return its blob where nothing else here needs it."""
    offer = find_delta(session, new, old)
    if offer is None:
        return None
    blob = offer.blob
    session.delete(offer)
    session.flush()
    return None if _is_needed(session, blob) else blob


def _is_needed(session: Session, blob: str) -> bool:
    """Say whether an offer, a version or a variant names a blob."""
    named = (
        select(DeltaOffer.blob).where(DeltaOffer.blob == blob),
        select(ModelVersion.id).where(
            or_(
                col(ModelVersion.master) == blob,
                col(ModelVersion.evaluation) == blob,
                col(ModelVersion.calibration) == blob,
            )
        ),
        select(VersionVariant.profile).where(
            col(VersionVariant.variant_json).contains(blob)
        ),
    )
    return any(session.exec(one.limit(1)).first() is not None for one in named)


def find_delta(session: Session, new: str, old: str) -> DeltaOffer | None:
    """Return the patch that makes `new` of `old`, None if there is none."""
    return session.get(DeltaOffer, (new, old))
