"""The route that answers why."""

from fastapi import APIRouter
from pydantic import BaseModel

from modelfleet_server.evidence import service
from modelfleet_server.evidence.domain import explain
from modelfleet_server.evidence.service import Answer
from modelfleet_server.kit.access import ViewerDep
from modelfleet_server.kit.api import NowDep, ReadDep

router = APIRouter(prefix="/api/v1", tags=["evidence"])


class PassedOut(BaseModel, from_attributes=True):
    """A step that was passed over, and why."""

    step: str
    release: str
    reason: str
    detail: str


class AnswerOut(BaseModel):
    """One slot: the server's resolver, and the device's own word."""

    slot: str
    action: str
    reason: str
    detail: str
    words: str
    model: str | None
    version: str | None
    variant: str | None
    step: str | None
    passed: list[PassedOut]
    device_action: str | None
    device_reason: str | None
    device_detail: str | None
    runs: str | None
    agree: bool


class WhyOut(BaseModel):
    """Why a device runs what it runs."""

    device: str
    slots: list[AnswerOut]


@router.get("/devices/{device_id}/why")
def get_why(device_id: str, session: ReadDep, _actor: ViewerDep, now: NowDep) -> WhyOut:
    """Explain each slot of a device by the resolver that the device uses itself."""
    answers = service.explain_device(session, device_id, now_ms=now)
    return WhyOut(device=device_id, slots=[_out(one) for one in answers])


def _out(one: Answer) -> AnswerOut:
    wanted, said = one.wanted, one.said
    return AnswerOut(
        slot=one.slot,
        action=wanted.action,
        reason=wanted.reason,
        detail=wanted.detail,
        words=explain(
            wanted.reason, wanted.detail, wanted.release.version if wanted.release else ""
        ),
        model=wanted.release.model if wanted.release else None,
        version=wanted.release.version if wanted.release else None,
        variant=wanted.variant.name if wanted.variant else None,
        step=wanted.step,
        passed=[PassedOut.model_validate(it) for it in wanted.passed],
        device_action=said.action if said else None,
        device_reason=said.reason if said else None,
        device_detail=said.detail if said else None,
        runs=said.version if said else None,
        agree=one.agree,
    )
