"""Queries on the trust metadata."""

import json
from functools import lru_cache

from sqlalchemy import func
from sqlmodel import Session, col, select

from modelfleet_manifests.header import Minimum
from modelfleet_server.trust.tables import TrustMetadata

TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")


def find(session: Session, role: str, version: int) -> TrustMetadata | None:
    """Return one version of a role's metadata."""
    return session.get(TrustMetadata, (role, version))


def find_newest(session: Session, role: str) -> TrustMetadata | None:
    """Return the metadata of a role that is in force."""
    return session.exec(
        select(TrustMetadata)
        .where(TrustMetadata.role == role)
        .order_by(col(TrustMetadata.version).desc())
        .limit(1)
    ).first()


def minimum(session: Session) -> Minimum:
    """Return the versions of the four top-level roles in force; 0 before there are any."""
    rows = session.execute(
        select(col(TrustMetadata.role), func.max(col(TrustMetadata.version)))
        .where(col(TrustMetadata.role).in_(TOP_LEVEL))
        .group_by(col(TrustMetadata.role))
    )
    return Minimum(**{str(role): int(version) for role, version in rows})


def read_epoch(session: Session) -> int:
    """Return `x-epoch` of the targets in force, 0 before there are any."""
    targets = find_newest(session, "targets")
    return 0 if targets is None else _epoch_of(targets.data)


@lru_cache(maxsize=4)
def _epoch_of(data: bytes) -> int:
    return int(json.loads(data)["signed"].get("x-epoch", 0))
