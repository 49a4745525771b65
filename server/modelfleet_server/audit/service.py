"""Write and verify the audit log."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlmodel import Session, select

from modelfleet_server.audit.domain import GENESIS, Fields, canonical_text, digest_of
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.kit.errors import ConflictError

BATCH = 1000


class AuditHead(NamedTuple):
    """The newest entry; its digest, noted elsewhere, shows later if the end was cut."""

    seq: int
    digest: str


class AuditBrokenError(ConflictError):
    """The log was changed behind the server's back.

    Attributes:
        data: `seq` of the first entry that does not follow.
    """

    code = "audit-broken"


def record(
    session: Session,
    actor: str,
    action: str,
    subject: str,
    detail: Mapping[str, object],
    *,
    at_ms: int,
) -> AuditEntry:
    """Append an entry in the caller's write transaction: both happen or neither.

    Args:
        session: From `Database.write()`; one writer at a time keeps the chain a chain.
        actor: `str(Actor)`.
        action: Noun and past verb, `release.approved`.
        subject: What changed, `demo/digits@1.0.0`.
        detail: JSON that explains it. Never a secret.
        at_ms: Unix milliseconds.

    Raises:
        TypeError: `detail` is not JSON.
    """
    head = find_head(session)
    fields = Fields(
        seq=head.seq + 1,
        at_ms=at_ms,
        actor=actor,
        action=action,
        subject=subject,
        detail=canonical_text(detail),
        previous=head.digest,
    )
    entry = AuditEntry(**fields._asdict(), digest=digest_of(fields))
    session.add(entry)
    session.flush()
    return entry


def find_head(session: Session) -> AuditHead:
    """Return the newest entry, `(0, GENESIS)` if there is none; verifies nothing."""
    newest = session.exec(
        select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(1)  # type: ignore[attr-defined]
    ).first()
    return AuditHead(0, GENESIS) if newest is None else AuditHead(newest.seq, newest.digest)


def verify(session: Session) -> AuditHead:
    """Walk the whole log and return its head. O(entries), constant memory.

    A log whose *end* was cut off is still a chain: compare the head with one noted before.

    Raises:
        AuditBrokenError: Names the first entry that was changed, or follows a removed one.
    """
    head = AuditHead(0, GENESIS)
    rows = session.exec(
        select(AuditEntry).order_by(AuditEntry.seq),  # type: ignore[arg-type]
        execution_options={"yield_per": BATCH},
    )
    for row in rows:
        _check(row, head)
        head = AuditHead(row.seq, row.digest)
    return head


def _check(row: AuditEntry, before: AuditHead) -> None:
    if row.seq != before.seq + 1:
        why = f"follows entry {before.seq}: what was between is missing"
    elif row.previous != before.digest:
        why = f"does not follow entry {before.seq}: one of the two was replaced"
    elif row.digest != digest_of(Fields(**row.model_dump(exclude={"digest"}))):
        why = "was changed: its digest is not that of its contents"
    else:
        return
    raise AuditBrokenError(
        f"audit entry {row.seq} {why}",
        "Keep this database as it is and compare it with a backup.",
        seq=row.seq,
    )
