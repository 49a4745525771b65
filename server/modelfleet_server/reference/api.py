"""Routes for reference devices, and for people who look at the evidence."""

from http import HTTPStatus
from typing import Annotated

import anyio
import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from msgspec import UNSET
from pydantic import BaseModel
from sqlmodel import select

from modelfleet_manifests.digests import HEX32
from modelfleet_manifests.document import cap_of
from modelfleet_manifests.evaluation import MAX_ANSWERS, RESULT
from modelfleet_server.blobs.service import Blob, BlobStore
from modelfleet_server.builds.messages import Scores
from modelfleet_server.kit.access import DeviceDep, ViewerDep
from modelfleet_server.kit.api import DatabaseDep, NowDep, ReadDep, WriteDep, given
from modelfleet_server.kit.paging import Page, PageDep, fetch_page
from modelfleet_server.reference import results, service
from modelfleet_server.reference.domain import ResultError
from modelfleet_server.reference.service import Referee
from modelfleet_server.reference.tables import Evaluation

router = APIRouter(prefix="/api/v1/evaluations", tags=["evaluations"])
RefereeDep = Annotated[Referee, Depends(given(Referee))]
BlobsDep = Annotated[BlobStore, Depends(given(BlobStore))]
JobPath = Annotated[str, Path(pattern=HEX32)]


class EvaluationOut(BaseModel):
    """One candidate on one device; figures are null until it answered."""

    id: str
    build: str
    device: str
    candidate: str
    state: str
    reason: str
    issued_ms: int
    finished_ms: int | None
    accuracy: float | None = None
    master_accuracy: float | None = None
    disagreements: int | None = None
    samples: int | None = None
    p50_us: int | None = None
    p90_us: int | None = None
    p99_us: int | None = None
    load_ms: int | None = None
    memory_kb: int | None = None
    energy_mj: int | None = None
    runtime: str | None = None
    provider: str | None = None

    @classmethod
    def of(cls, row: Evaluation) -> "EvaluationOut":
        """Return what the API tells of an evaluation."""
        out = cls(
            id=row.id,
            build=row.build_id,
            device=row.device,
            candidate=row.candidate,
            state=row.state,
            reason=row.reason,
            issued_ms=row.issued_ms,
            finished_ms=row.finished_ms,
        )
        if row.scores_json:
            scores = msgspec.json.decode(row.scores_json, type=Scores)
            for name in ("accuracy", "master_accuracy", "disagreements", "samples"):
                setattr(out, name, getattr(scores, name))
        result = service.read_result(row)
        if result is not None:
            out.runtime, out.provider = result.runtime, result.provider
            measured = result.measured
            if measured is not UNSET:
                latency = measured.latency_us
                out.p50_us, out.p90_us, out.p99_us = latency.p50, latency.p90, latency.p99
                out.load_ms, out.memory_kb = measured.load_ms, measured.memory_kb
                energy = measured.energy_mj
                out.energy_mj = None if energy is UNSET else energy
        return out


@router.get("")
def get_evaluations(
    session: ReadDep,
    page: PageDep,
    _actor: ViewerDep,
    build: Annotated[str | None, Query(pattern=HEX32)] = None,
) -> Page[EvaluationOut]:
    """List evaluations, of one build or of all."""
    statement = select(Evaluation)
    if build is not None:
        statement = statement.where(Evaluation.build_id == build)
    keys = [Evaluation.issued_ms, Evaluation.id]
    rows, after = fetch_page(session, statement, keys, page, newest_first=True)
    return Page(items=[EvaluationOut.of(row) for row in rows], next=after)


@router.get("/next", response_class=Response)
def get_next(
    session: WriteDep, referee: RefereeDep, actor: DeviceDep, now: NowDep
) -> Response:
    """Send the signed document of what the asking device is to evaluate, 204 if nothing."""
    document = referee.next_document(session, actor.name, now_ms=now)
    if document is None:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return Response(document, media_type="application/json")


@router.put("/{evaluation}/answers", status_code=HTTPStatus.NO_CONTENT)
async def put_answers(
    evaluation: JobPath,
    request: Request,
    store: BlobsDep,
    database: DatabaseDep,
    actor: DeviceDep,
    now: NowDep,
) -> None:
    """Store the answers of the asking device, an npy of at most 64 MiB."""

    def check() -> None:
        with database.read() as session:
            results.require_awaited(session, actor.name, evaluation)

    def note(blob: Blob) -> None:
        with database.write() as session:
            row = results.require_awaited(session, actor.name, evaluation)
            results.take_answers(session, row, blob, store, now_ms=now)

    await run_in_threadpool(check)  # before anything is stored
    head = b""
    with store.receive(cap=MAX_ANSWERS) as incoming:
        async for chunk in request.stream():
            head = (head + chunk)[: len(results.MAGIC)]
            await run_in_threadpool(incoming.write, chunk)
        if head != results.MAGIC:
            raise ResultError(
                "the answers are no npy file", "Upload what numpy.save wrote."
            )
        blob = await run_in_threadpool(store.finish, incoming)
    # a thread beyond the pool's: waiting for the writer's turn must not use them up
    await anyio.to_thread.run_sync(note, blob, limiter=anyio.CapacityLimiter(1))


@router.post("/{evaluation}/result", status_code=HTTPStatus.NO_CONTENT)
async def post_result(
    evaluation: JobPath,
    request: Request,
    database: DatabaseDep,
    actor: DeviceDep,
    now: NowDep,
) -> None:
    """Take the signed result of the asking device."""
    envelope = b""
    async for chunk in request.stream():
        envelope += chunk
        if len(envelope) > cap_of(RESULT):
            raise ResultError(f"a result has at most {cap_of(RESULT)} bytes")

    def take() -> None:
        with database.write() as session:
            results.take_result(session, actor.name, evaluation, envelope, now_ms=now)

    await anyio.to_thread.run_sync(take, limiter=anyio.CapacityLimiter(1))
