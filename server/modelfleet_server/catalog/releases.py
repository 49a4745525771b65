"""What is signed: releases by name and by id, read from the signed targets themselves."""

from collections.abc import Iterable

import msgspec
from sqlmodel import Session, col, select

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.names import release_path, split_model
from modelfleet_manifests.recalls import Subject, subject_of
from modelfleet_manifests.release import Release, ReleaseRef, Variant, read_release
from modelfleet_manifests.semver import Version
from modelfleet_server.catalog.tables import ModelVersion, VersionVariant
from modelfleet_server.catalog.versions import find_version
from modelfleet_server.kit.errors import ConflictError, NotFoundError
from modelfleet_server.trust.tables import TrustTarget
from modelfleet_server.trust.view import read_recalls

BATCH = 500


class RevokedError(ConflictError):
    """The release is revoked or stopped: no device would install it."""

    code = "release-revoked"


def find_release(session: Session, model: str, version: str) -> tuple[ReleaseRef, Release]:
    """Return a signed release that may be rolled out.

    Raises:
        BadNameError: The model's name or the version is not well-formed.
        NotFoundError: It is not there, or not signed yet; says which.
        RevokedError: It is revoked or stopped.
    """
    split_model(model)
    Version(version)
    row = session.exec(
        select(TrustTarget).where(TrustTarget.path == release_path(model, version))
    ).first()
    if row is None:
        raise _missing(session, model, version)
    if read_recalls(session).blocks(Subject(model, version, frozenset({row.digest}))):
        raise RevokedError(
            f"{model} {version} is revoked: no device would install it",
            "Roll out another version.",
            release=row.digest,
        )
    release = read_release(row.data)
    return ReleaseRef(model=model, version=version, id=row.digest), release


def releases_by_id(session: Session, ids: Iterable[str]) -> dict[str, Release]:
    """Return the signed releases with these ids, also revoked ones; others are left out."""
    wanted = sorted(set(ids))
    found: dict[str, Release] = {}
    for start in range(0, len(wanted), BATCH):
        rows = session.exec(
            select(TrustTarget).where(
                col(TrustTarget.digest).in_(wanted[start : start + BATCH]),
                col(TrustTarget.path).like("m/%"),
            )
        )
        found |= {row.digest: read_release(row.data) for row in rows}
    return found


def variants_by_digest(session: Session, digests: Iterable[str]) -> dict[str, Variant]:
    """Return the variants that devices know by these digests; others are left out."""
    wanted = sorted(set(digests))
    found: dict[str, Variant] = {}
    for start in range(0, len(wanted), BATCH):
        rows = session.exec(
            select(VersionVariant).where(
                col(VersionVariant.digest).in_(wanted[start : start + BATCH])
            )
        )
        for row in rows:
            found[row.digest] = msgspec.json.decode(row.variant_json, type=Variant)
    return found


def released_versions(session: Session, model: str) -> list[str]:
    """Return the versions of a model that are signed and not recalled, lowest first."""
    recalls = read_recalls(session)
    rows = session.exec(
        select(TrustTarget).where(col(TrustTarget.path).like(release_path(model, "%")))
    )
    releases = [(row.digest, read_release(row.data)) for row in rows]
    versions = [
        one.version for id_, one in releases if not recalls.blocks(subject_of(id_, one))
    ]
    return sorted(versions, key=Version)


def release_id(data: bytes) -> str:
    """Return the release id of a statement's bytes."""
    return sha256(data)


def _missing(session: Session, model: str, version: str) -> NotFoundError:
    held: ModelVersion | None = find_version(session, model, version)
    if held is None:
        return NotFoundError(
            f"there is no release {version} of {model}",
            "See what there is: modelfleet release list.",
            model=model,
            version=version,
        )
    return NotFoundError(
        f"{model} {version} is {held.state}, not released",
        f"Sign it: modelfleet approve {held.proposal}."
        if held.proposal
        else "Wait until it is built, then approve it.",
        model=model,
        version=version,
        state=str(held.state),
    )
