"""Routes for builds: how far they are, why they failed, and once more."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlmodel import Session, select

from modelfleet_server.builds import service
from modelfleet_server.builds.choosing import Candidate, interval
from modelfleet_server.builds.overrides import Override, override
from modelfleet_server.builds.tables import Build
from modelfleet_server.jobs.domain import State as JobState
from modelfleet_server.jobs.service import find_jobs
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.access import ApproverDep, OperatorDep, ViewerDep
from modelfleet_server.kit.api import NowDep, ReadDep, WriteDep
from modelfleet_server.kit.paging import Page, PageDep, fetch_page

router = APIRouter(prefix="/api/v1/builds", tags=["builds"])


class CandidateOut(BaseModel):
    """What was tried: figures are null where it could not be built; see `choosing`."""

    name: str
    precision: str
    refused: str
    accuracy: float | None
    disagreements: int | None
    disagreement_high: float | None
    samples: int
    distance: float | None
    latency_ms: float | None
    p95_ms: float | None
    size: int | None
    wire: int | None
    memory_mb: float | None
    emulated: dict[str, float]
    chosen: bool
    best: bool
    verdict: str

    @classmethod
    def of(cls, one: Candidate) -> "CandidateOut":
        """Return what the API tells of a candidate."""
        differ = one.disagreements
        high = None if differ is None else interval(differ, one.samples)[1]
        return cls(**msgspec.structs.asdict(one), disagreement_high=high)


class OverrideIn(BaseModel):
    """Which candidate may pass the gate, and why."""

    candidate: str = Field(max_length=32)
    reason: str = Field(min_length=10, max_length=500)


class BuildOut(BaseModel):
    """A build. What it made, from `precision` to `unproven`, is null until it is done.

    `job` and what it tells (`attempts`, `step`, `done`, `of`, `started_ms`) are of its job,
    as long as that is kept.
    """

    id: str
    version_id: str
    profile: str
    state: Literal["queued", "running", "done", "failed"]
    attempts: int
    override: str
    step: str
    done: int
    of: int
    code: str
    reason: str
    hint: str
    precision: str | None
    why: str | None
    metrics: dict[str, str] | None
    candidates: list[CandidateOut] | None
    unproven: list[str] | None
    job: str | None
    queued_ms: int
    started_ms: int | None
    finished_ms: int | None

    @classmethod
    def of_row(cls, build: Build, job: Job | None) -> "BuildOut":
        """Return what the API tells of `build` and its job."""
        built = service.read_built(build)
        runs = job is not None and job.state is JobState.RUNNING
        return cls(
            **build.model_dump(exclude={"built_json", "state"}),
            state="running" if runs else build.state.value,
            job=job.id if job else None,
            attempts=job.starts if job else 0,
            step=job.step if job else "",
            done=job.done if job else 0,
            of=job.of if job else 0,
            started_ms=job.started_ms if job else None,
            precision=built.precision if built else None,
            why=built.why if built else None,
            metrics=built.metrics if built else None,
            unproven=built.unproven if built else None,
            candidates=[CandidateOut.of(one) for one in built.front] if built else None,
        )


@router.get("")
def get_builds(
    session: ReadDep,
    _actor: ViewerDep,
    ask: PageDep,
    version: Annotated[str | None, Query(max_length=32)] = None,
) -> Page[BuildOut]:
    """List builds, newest first; of one version if its id is given."""
    statement = select(Build)
    if version is not None:
        statement = statement.where(Build.version_id == version)
    keys = [Build.queued_ms, Build.id]
    rows, after = fetch_page(session, statement, keys, ask, newest_first=True)
    return Page(items=_tell(session, rows), next=after)


@router.get("/{build_id}")
def get_build(build_id: str, session: ReadDep, _actor: ViewerDep) -> BuildOut:
    """Show one build."""
    return _tell(session, [service.get_build(session, build_id)])[0]


@router.post("/{build_id}/retry")
def post_retry(
    build_id: str, session: WriteDep, actor: OperatorDep, now: NowDep
) -> BuildOut:
    """Queue a failed build again."""
    build = service.retry(session, build_id, actor=str(actor), at_ms=now)
    return _tell(session, [build])[0]


@router.post("/{build_id}/override")
def post_override(
    build_id: str, wish: OverrideIn, session: WriteDep, actor: ApproverDep, now: NowDep
) -> BuildOut:
    """Let a candidate pass the parity gate, with a reason that is kept for good."""
    build = override(
        session,
        build_id,
        Override(wish.candidate, wish.reason),
        actor=str(actor),
        at_ms=now,
    )
    return _tell(session, [build])[0]


def _tell(session: Session, builds: Sequence[Build]) -> list[BuildOut]:
    jobs = find_jobs(session, service.KIND, [build.id for build in builds])
    return [BuildOut.of_row(build, jobs.get(build.id)) for build in builds]
