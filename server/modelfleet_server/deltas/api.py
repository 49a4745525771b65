"""Routes for deltas: what is made, saved, dropped and why; and asking for more."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlmodel import Session, select

from modelfleet_server.catalog import service as catalog
from modelfleet_server.deltas import service
from modelfleet_server.deltas.domain import State
from modelfleet_server.deltas.tables import Delta
from modelfleet_server.jobs.domain import State as JobState
from modelfleet_server.kit.access import OperatorDep, ViewerDep
from modelfleet_server.kit.api import NowDep, ReadDep, WriteDep
from modelfleet_server.kit.paging import Page, PageDep, fetch_page

router = APIRouter(prefix="/api/v1/deltas", tags=["deltas"])


class DeltaOut(BaseModel):
    """A pair of files. In bytes.

    `whole` is what a device fetches without the delta; `saved` what one device does not
    fetch thanks to it, 0 unless it was made.
    """

    new: str
    old: str
    model: str
    version: str
    profile: str
    state: State
    devices: int
    size: int
    whole: int
    estimate: int
    length: int
    saved: int
    reason: str
    changed_ms: int

    @classmethod
    def of(cls, row: Delta) -> "DeltaOut":
        """Return what the API tells of a row."""
        saved = row.whole - row.length if row.state is State.MADE else 0
        fields = set(cls.model_fields) - {"saved"}
        return cls(**row.model_dump(include=fields), saved=saved)


class PlanIn(BaseModel):
    """Which release to make deltas to, and whether to try again what failed."""

    model: str = Field(max_length=127)
    version: str = Field(max_length=64)
    retry: bool = False


class PlanOut(BaseModel):
    """The last plan for a release, and its deltas by their state.

    `state` is `none` where nobody asked; `failed` says why in `reason`. `saved` counts the
    bytes that all devices together do not fetch.
    """

    model: str
    version: str
    release: str
    state: JobState | Literal["none"]
    step: str
    done: int
    of: int
    reason: str
    hint: str
    deltas: dict[State, int]
    saved: int


@router.get("")
def get_deltas(
    session: ReadDep,
    _actor: ViewerDep,
    ask: PageDep,
    model: Annotated[str | None, Query(max_length=127)] = None,
    version: Annotated[str | None, Query(max_length=64)] = None,
    state: Annotated[State | None, Query()] = None,
) -> Page[DeltaOut]:
    """List the deltas that were considered, those that changed last first."""
    statement = select(Delta)
    for column, value in (
        (Delta.model, model),
        (Delta.version, version),
        (Delta.state, state),
    ):
        if value is not None:
            statement = statement.where(column == value)
    keys = [Delta.changed_ms, Delta.new, Delta.old]
    rows, after = fetch_page(session, statement, keys, ask, newest_first=True)
    return Page(items=[DeltaOut.of(row) for row in rows], next=after)


@router.post("/plans", status_code=201)
def post_plan(wish: PlanIn, session: WriteDep, actor: OperatorDep, now: NowDep) -> PlanOut:
    """Ask for the deltas to a release that save most, for what devices run now."""
    ref, _release = catalog.find_release(session, wish.model, wish.version)
    service.request(session, ref, actor=str(actor), at_ms=now, retry=wish.retry)
    return _plan(session, wish.model, wish.version)


@router.get("/plans/{namespace}/{name}/{version}")
def get_plan(
    namespace: str, name: str, version: str, session: ReadDep, _actor: ViewerDep
) -> PlanOut:
    """Show how far the deltas to a release are."""
    return _plan(session, f"{namespace}/{name}", version)


def _plan(session: Session, model: str, version: str) -> PlanOut:
    ref, _release = catalog.find_release(session, model, version)
    job = service.find_plan(session, ref.id)
    return PlanOut(
        model=model,
        version=version,
        release=ref.id,
        state=job.state if job else "none",
        step=job.step if job else "",
        done=job.done if job else 0,
        of=job.of if job else 0,
        reason=job.reason if job else "",
        hint=job.hint if job else "",
        deltas=dict(service.totals(session, ref.id)),
        saved=service.total_saving(session, ref.id),
    )
