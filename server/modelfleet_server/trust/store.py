"""Queries on trust metadata and proposals."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import func
from sqlmodel import Session, col, select

from modelfleet_manifests.header import Minimum
from modelfleet_server.kit.errors import InvalidError, NotFoundError
from modelfleet_server.trust.domain import State
from modelfleet_server.trust.rolefile import payload_of, read_file
from modelfleet_server.trust.tables import (
    Proposal,
    ProposalRole,
    ProposalSignature,
    ProposalTarget,
    TrustMetadata,
    TrustTarget,
)

_IN_FORCE = "modelfleet.trust.in_force"
_PREFIX = re.compile("[0-9a-f]{6,31}")
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


def online_keys(session: Session, role: str) -> frozenset[str]:
    """Return the key ids in force of `director` or `time`, none before there are any."""
    targets = find_newest(session, "targets")
    return frozenset() if targets is None else _keys_of(targets.data, role)


class InForce(NamedTuple):
    """What the director goes by: versions and epoch for its documents, and its keys."""

    minimum: Minimum
    epoch: int
    director: frozenset[str]


def in_force(session: Session) -> InForce:
    """Return the versions in force and the director's epoch.

    A session asks the database once: it is one transaction and sees one state (`kit.db`);
    what it changes itself is followed by `forget`.
    """
    held: InForce | None = session.info.get(_IN_FORCE)
    if held is None:
        held = session.info[_IN_FORCE] = InForce(
            minimum(session), read_epoch(session), online_keys(session, "director")
        )
    return held


def forget(session: Session) -> None:
    """Let `in_force` ask again: this session has put other metadata into force."""
    session.info.pop(_IN_FORCE, None)


@lru_cache(maxsize=4)
def _epoch_of(data: bytes) -> int:
    return int(json.loads(data)["signed"].get("x-epoch", 0))


@lru_cache(maxsize=8)
def _keys_of(data: bytes, role: str) -> frozenset[str]:
    roles = json.loads(data)["signed"]["delegations"]["roles"]
    return frozenset(
        key_id for one in roles if one["name"] == role for key_id in one["keyids"]
    )


def read_payload(session: Session, role: str) -> bytes | None:
    """Return the canonical signed part of a role in force, None if it has none."""
    row = find_newest(session, role)
    return None if row is None else payload_of(read_file(row.data).signed)


def all_releases(session: Session) -> Iterator[TrustTarget]:
    """Yield the statements of all releases that were ever listed."""
    yield from session.exec(
        select(TrustTarget).where(col(TrustTarget.path).like("m/%")),
        execution_options={"yield_per": 100},
    )


def release_paths(session: Session) -> Sequence[tuple[str, str]]:
    """Return path and id of every release that was ever listed."""
    rows = session.exec(
        select(TrustTarget.path, TrustTarget.digest).where(
            col(TrustTarget.path).like("m/%")
        )
    )
    return [(path, digest) for path, digest in rows]


def find_target(session: Session, path: str, digest: str) -> TrustTarget | None:
    """Return the bytes of a target."""
    return session.get(TrustTarget, (path, digest))


def find_release(session: Session, release_id: str) -> TrustTarget | None:
    """Return the statement with this release id, if it was ever listed."""
    return session.exec(
        select(TrustTarget).where(
            TrustTarget.digest == release_id, col(TrustTarget.path).like("m/%")
        )
    ).first()


def get_proposal(session: Session, proposal_id: str) -> Proposal:
    """Return a proposal by its id, or by how it begins where that is enough.

    Raises:
        NotFoundError: There is none whose id begins so.
        InvalidError: Several do.
    """
    whole = session.get(Proposal, proposal_id)
    if whole is not None:
        return whole
    found: Sequence[Proposal] = []
    if _PREFIX.fullmatch(proposal_id):
        found = session.exec(
            select(Proposal).where(col(Proposal.id).startswith(proposal_id)).limit(2)
        ).all()
    if len(found) > 1:
        raise InvalidError(
            f"several proposals begin with {proposal_id}", "Write more of the id."
        )
    if not found:
        raise NotFoundError(
            f"there is no proposal {proposal_id}",
            "List them with: modelfleet proposal list.",
            proposal=proposal_id,
        )
    return found[0]


def roles_of(session: Session, proposal_id: str) -> list[ProposalRole]:
    """Return the roles that a proposal changes, delegating roles first."""
    return list(
        session.exec(
            select(ProposalRole)
            .where(ProposalRole.proposal == proposal_id)
            .order_by(col(ProposalRole.place))
        )
    )


def targets_of(session: Session, proposal_id: str) -> dict[str, bytes]:
    """Return the new targets of a proposal: bytes by path."""
    rows = session.exec(
        select(ProposalTarget).where(ProposalTarget.proposal == proposal_id)
    )
    return {row.path: row.data for row in rows}


def signatures_of(session: Session, proposal_id: str) -> list[ProposalSignature]:
    """Return the signatures gathered so far, oldest first."""
    return list(
        session.exec(
            select(ProposalSignature)
            .where(ProposalSignature.proposal == proposal_id)
            .order_by(col(ProposalSignature.signed_ms), col(ProposalSignature.key_id))
        )
    )


def open_proposals(session: Session, roles: Collection[str]) -> list[Proposal]:
    """Return the open proposals that change one of `roles`."""
    return list(
        session.exec(
            select(Proposal)
            .where(
                Proposal.state == State.OPEN,
                col(Proposal.id).in_(
                    select(ProposalRole.proposal).where(col(ProposalRole.role).in_(roles))
                ),
            )
            .order_by(col(Proposal.created_ms))
        )
    )


def approvals_of(
    session: Session, subject: str
) -> list[tuple[Proposal, ProposalSignature]]:
    """Return who signed what about a subject such as `demo/digits@1.0.0`."""
    rows = session.exec(
        select(Proposal, ProposalSignature)
        .where(ProposalSignature.proposal == Proposal.id, Proposal.subject == subject)
        .order_by(col(ProposalSignature.signed_ms), col(ProposalSignature.role))
    )
    return [(proposal, signature) for proposal, signature in rows]


def newest_of_all(session: Session) -> list[TrustMetadata]:
    """Return the metadata in force of every role, by the role's name."""
    newest = (
        select(col(TrustMetadata.role), func.max(col(TrustMetadata.version)).label("top"))
        .group_by(col(TrustMetadata.role))
        .subquery()
    )
    return list(
        session.exec(
            select(TrustMetadata)
            .join(
                newest,
                (newest.c.role == col(TrustMetadata.role))
                & (newest.c.top == col(TrustMetadata.version)),
            )
            .order_by(col(TrustMetadata.role))
        )
    )
