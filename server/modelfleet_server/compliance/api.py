"""Routes for compliance."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from modelfleet_server.compliance import service
from modelfleet_server.compliance.domain import Compliance
from modelfleet_server.compliance.service import Verdict
from modelfleet_server.kit.access import ViewerDep
from modelfleet_server.kit.api import NowDep, ReadDep
from modelfleet_server.kit.paging import PageDep

router = APIRouter(prefix="/api/v1/compliance", tags=["compliance"])


class SlotOut(BaseModel, from_attributes=True):
    """One slot of a device."""

    slot: str
    state: Compliance
    model: str
    version: str
    variant: str
    digest: str
    phase: str
    reason: str
    detail: str
    intact: bool


class VerdictOut(BaseModel):
    """A device: one state, the reason, what to do next."""

    device: str
    profile: str
    state: Compliance
    reason: str
    next: str
    wants: str
    runs: str
    reported_ms: int
    slots: list[SlotOut]


class OverviewOut(BaseModel):
    """Devices per state, exclusive; and the first of the list."""

    total: int
    counts: dict[Compliance, int]
    items: list[VerdictOut]
    next: str | None


@router.get("")
def get_overview(
    session: ReadDep,
    _actor: ViewerDep,
    ask: PageDep,
    now: NowDep,
    group: Annotated[str | None, Query(max_length=63)] = None,
    state: Annotated[Compliance | None, Query()] = None,
) -> OverviewOut:
    """Count devices per state and list them; the cursor is the last device's id."""
    seen = service.overview(session, group, now_ms=now)
    items = service.verdicts(
        session,
        now_ms=now,
        group=group,
        state=state,
        after=ask.cursor or "",
        limit=ask.limit,
    )
    more = items[-1].device if len(items) == ask.limit else None
    return OverviewOut(
        total=seen.total, counts=seen.counts, items=[_out(one) for one in items], next=more
    )


@router.get("/{device_id}")
def get_verdict(
    device_id: str, session: ReadDep, _actor: ViewerDep, now: NowDep
) -> VerdictOut:
    """Show one device."""
    return _out(service.verdict_of(session, device_id, now_ms=now))


def _out(verdict: Verdict) -> VerdictOut:
    return VerdictOut.model_validate(verdict, from_attributes=True)
