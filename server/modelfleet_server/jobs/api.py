"""Routes for jobs: what waits, what runs and how far, and an end to one."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from sqlmodel import Session, col, select

from modelfleet_server.jobs import service
from modelfleet_server.jobs.domain import State
from modelfleet_server.jobs.kinds import Kinds
from modelfleet_server.jobs.tables import Executor, Job
from modelfleet_server.kit.access import OperatorDep, ViewerDep
from modelfleet_server.kit.api import NowDep, ReadDep, WriteDep, given
from modelfleet_server.kit.paging import Page, PageDep, fetch_page

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])
KindsDep = Annotated[Kinds, Depends(given(Kinds))]


class JobOut(BaseModel):
    """A job. `host` says where it runs or ran last, as long as that process is known."""

    id: str
    kind: str
    key: str
    lane: str
    title: str
    state: State
    step: str
    done: int
    of: int
    starts: int
    losses: int
    host: str | None
    actor: str
    code: str
    reason: str
    hint: str
    queued_ms: int
    started_ms: int | None
    finished_ms: int | None


def tell(session: Session, jobs: Sequence[Job]) -> list[JobOut]:
    """Return what the API tells of jobs."""
    rows = session.exec(
        select(Executor).where(col(Executor.id).in_({job.executor for job in jobs}))
    ).all()
    hosts = {row.id: f"{row.host} (process {row.pid})" for row in rows}
    return [JobOut(**job.model_dump(), host=hosts.get(job.executor)) for job in jobs]


@router.get("")
def get_jobs(
    session: ReadDep,
    _actor: ViewerDep,
    ask: PageDep,
    state: State | None = None,
    kind: Annotated[str | None, Query(max_length=63)] = None,
    lane: Annotated[str | None, Query(max_length=127)] = None,
) -> Page[JobOut]:
    """List jobs, newest first; of one state, kind or lane."""
    statement = select(Job)
    for column, wanted in ((Job.state, state), (Job.kind, kind), (Job.lane, lane)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    keys = [Job.queued_ms, Job.id]
    rows, after = fetch_page(session, statement, keys, ask, newest_first=True)
    return Page(items=tell(session, rows), next=after)


@router.get("/{job_id}")
def get_job(job_id: str, session: ReadDep, _actor: ViewerDep) -> JobOut:
    """Show one job, by its id or the beginning of it."""
    return tell(session, [service.find_job(session, job_id)])[0]


@router.post("/{job_id}/cancel")
def post_cancel(
    job_id: str, session: WriteDep, actor: OperatorDep, kinds: KindsDep, now: NowDep
) -> JobOut:
    """End a job that waits or runs."""
    found = service.find_job(session, job_id)
    job = service.cancel(session, kinds, found.id, actor=str(actor), at_ms=now)
    return tell(session, [job])[0]
