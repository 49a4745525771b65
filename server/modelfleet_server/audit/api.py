"""Read the audit log."""

import json
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from sqlmodel import select

from modelfleet_server.audit import service
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.kit.access import ViewerDep
from modelfleet_server.kit.api import ReadDep
from modelfleet_server.kit.paging import Page, PageDep, fetch_page

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


class EntryOut(BaseModel):
    """One change."""

    seq: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    previous: str
    digest: str


class HeadOut(BaseModel):
    """The newest entry of a log that is whole."""

    seq: int
    digest: str


@router.get("")
def get_entries(
    session: ReadDep, _actor: ViewerDep, ask: PageDep, subject: str | None = None
) -> Page[EntryOut]:
    """List changes, newest first; of one subject if it is named."""
    statement = select(AuditEntry)
    if subject is not None:
        statement = statement.where(AuditEntry.subject == subject)
    rows, after = fetch_page(session, statement, [AuditEntry.seq], ask, newest_first=True)
    items = [
        EntryOut(**row.model_dump(exclude={"detail"}), detail=json.loads(row.detail))
        for row in rows
    ]
    return Page(items=items, next=after)


@router.get("/verify")
def get_verdict(session: ReadDep, _actor: ViewerDep) -> HeadOut:
    """Walk the whole log; 409 names the first entry that was tampered with."""
    head = service.verify(session)
    return HeadOut(seq=head.seq, digest=head.digest)
