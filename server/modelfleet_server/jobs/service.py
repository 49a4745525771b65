"""What can be done with jobs. Never commits."""

import logging
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import delete, func
from sqlmodel import Session, col, select, update

from modelfleet_server.audit.service import record
from modelfleet_server.jobs.domain import (
    ENDED,
    MAX_LOSSES,
    OPEN,
    Event,
    Progress,
    State,
    after,
    next_turn,
)
from modelfleet_server.jobs.errors import CancelledError, JobNotFoundError, LostError
from modelfleet_server.jobs.kinds import Kinds
from modelfleet_server.jobs.run import Ticket
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.errors import AppError
from modelfleet_server.kit.ids import new_id

log = logging.getLogger(__name__)


class Wish(NamedTuple):
    """A job to be asked for.

    Attributes:
        kind: Name of a `Kind`.
        key: What it is about; there is one job per kind and key.
        lane: Lanes take turns; a model's name, so that none starves another.
        payload: What the work needs to know; small, and without secrets.
        title: What it is about, for people.
    """

    kind: str
    key: str
    lane: str
    payload: msgspec.Struct
    title: str = ""


def submit(
    session: Session, wish: Wish, *, actor: str, at_ms: int, again: bool = False
) -> Job:
    """Ask for a job in the caller's transaction; ask twice and there is one.

    Args:
        session: Of the transaction that makes the job necessary.
        wish: What to do.
        actor: Who asks.
        at_ms: Now.
        again: Do one that has ended (done, failed or cancelled) once more from its
            beginning, with this payload; otherwise it is returned as it is.

    Returns:
        The job of that kind and key.
    """
    there = session.exec(
        select(Job).where(Job.kind == wish.kind, Job.key == wish.key)
    ).first()
    if there is not None and (there.state in OPEN or not again):
        return there
    turn = _turn(session, wish.lane)
    payload = msgspec.json.encode(wish.payload).decode()
    if there is None:
        there = Job(
            id=new_id(),
            kind=wish.kind,
            key=wish.key,
            lane=wish.lane,
            title=wish.title,
            payload_json=payload,
            actor=actor,
            state=State.QUEUED,
            turn=turn,
            queued_ms=at_ms,
        )
    else:
        there.state = after(there.state, Event.REPEAT)
        there.run, there.handed, there.losses = there.run + 1, False, 0
        there.lane, there.title, there.turn = wish.lane, wish.title, turn
        there.payload_json = payload
        there.actor, there.queued_ms = actor, at_ms
        there.step, there.done, there.of = "", 0, 0
        there.code = there.reason = there.hint = ""
        there.started_ms = there.finished_ms = None
    session.add(there)
    session.flush()
    return there


def get_job(session: Session, job_id: str) -> Job:
    """Return a job.

    Raises:
        JobNotFoundError: There is none of this id.
    """
    job = session.get(Job, job_id)
    if job is None:
        raise JobNotFoundError(
            f"there is no job {job_id}", "See modelfleet job list.", job=job_id
        )
    return job


def find_job(session: Session, job_id: str) -> Job:
    """Return a job by its id, or by a beginning of it that is unique.

    Raises:
        JobNotFoundError: There is none, or more than one.
    """
    rows = session.exec(select(Job).where(col(Job.id).startswith(job_id)).limit(2)).all()
    if len(rows) != 1:
        raise JobNotFoundError(
            f"there is no job {job_id!r}" if not rows else
            f"more than one job begins with {job_id!r}",
            "List them: modelfleet job list.",
            job=job_id,
        )  # fmt: skip
    return rows[0]


def find_jobs(session: Session, kind: str, keys: Collection[str]) -> dict[str, Job]:
    """Return the jobs of that kind by key, as far as there are any (any more)."""
    statement = select(Job).where(Job.kind == kind, col(Job.key).in_(keys))
    return {job.key: job for job in session.exec(statement).all()}


def cancel(session: Session, kinds: Kinds, job_id: str, *, actor: str, at_ms: int) -> Job:
    """End a job that waits or runs; its process stops it within a second.

    Raises:
        JobNotFoundError: There is none of this id.
        MoveError: It has ended.
    """
    job = get_job(session, job_id)
    job.state = after(job.state, Event.CANCEL)
    error = CancelledError(f"{actor} cancelled it", "Ask for it again if it is needed.")
    _end(session, kinds, job, error, at_ms)
    detail = {"kind": job.kind, "key": job.key}
    record(session, actor, "job.cancelled", job.id, detail, at_ms=at_ms)
    return job


def begin(
    session: Session, job_id: str, run: int, executor: str, *, at_ms: int
) -> Job | None:
    """Start a job that waits; None where this run of it is not wanted any more."""
    job = session.get(Job, job_id)
    if job is None or job.run != run or job.state is not State.QUEUED:
        return None
    job.state = after(job.state, Event.START)
    job.starts, job.executor = job.starts + 1, executor
    job.step, job.done, job.of = "starting", 0, 0
    job.started_ms = at_ms
    session.add(job)
    session.flush()
    return job


def find_held(session: Session, ticket: Ticket) -> Job | None:
    """Return the job if it is still this run's: running, and begun last by it."""
    job = session.get(Job, ticket.job_id)
    if job is None or job.state is not State.RUNNING:
        return None
    return job if (job.executor, job.starts) == ticket[1:] else None


def note_progress(session: Session, ticket: Ticket, progress: Progress) -> bool:
    """Show how far a job is; return False if it is no longer this run's."""
    job = find_held(session, ticket)
    if job is None:
        return False
    job.step, job.done, job.of = progress
    session.add(job)
    return True


def finish(session: Session, ticket: Ticket, *, at_ms: int) -> Job | None:
    """Note that a job is done; None where it is no longer this run's."""
    job = find_held(session, ticket)
    if job is None:
        return None
    job.state = after(job.state, Event.FINISH)
    job.step, job.done, job.finished_ms = "done", job.of, at_ms
    session.add(job)
    session.flush()
    return job


def fail(
    session: Session, kinds: Kinds, ticket: Ticket, error: AppError, *, at_ms: int
) -> Job | None:
    """Note why a job failed; None where it is no longer this run's."""
    job = find_held(session, ticket)
    if job is not None:
        job.state = after(job.state, Event.FAIL)
        _end(session, kinds, job, error, at_ms)
    return job


def put_back(session: Session, ticket: Ticket) -> None:
    """Give up a running job in good order: it goes on elsewhere, and nothing is lost."""
    job = find_held(session, ticket)
    if job is not None:
        job.state = after(job.state, Event.LOSE)
        job.executor = ""
        session.add(job)


def lose(session: Session, kinds: Kinds, jobs: Sequence[Job], *, at_ms: int) -> None:
    """Let jobs wait again whose process ended before they did; some were lost too often."""
    for job in jobs:
        job.state = after(job.state, Event.LOSE)
        job.executor = ""
        job.losses += 1
        session.add(job)
        if job.losses >= MAX_LOSSES:
            error = LostError(
                f"{job.losses} processes ended while they worked at it",
                "See the server's log for why, then ask for it again.",
            )
            job.state = after(job.state, Event.FAIL)
            _end(session, kinds, job, error, at_ms)


def list_running(session: Session, executors: Collection[str]) -> list[Job]:
    """Return the jobs that these executors run."""
    statement = select(Job).where(
        Job.state == State.RUNNING, col(Job.executor).in_(executors)
    )
    return list(session.exec(statement).all())


def list_unhanded(session: Session, limit: int) -> list[Job]:
    """Return jobs that wait and are not in the queue yet, by turn."""
    statement = select(Job).where(Job.state == State.QUEUED, col(Job.handed).is_(False))
    order = (col(Job.turn), col(Job.queued_ms), col(Job.id))
    return list(session.exec(statement.order_by(*order).limit(limit)).all())


def list_handed(session: Session) -> list[Job]:
    """Return jobs that wait in the queue."""
    statement = select(Job).where(Job.state == State.QUEUED, col(Job.handed).is_(True))
    return list(session.exec(statement).all())


def mark_handed(session: Session, runs: Sequence[tuple[str, int]]) -> None:
    """Note that these runs (job id and run) are in the queue."""
    for job_id, run in runs:
        session.exec(
            update(Job)
            .where(col(Job.id) == job_id, col(Job.run) == run)
            .values(handed=True)
        )


def begin_anew(session: Session, job_ids: Collection[str]) -> None:
    """Hand these waiting jobs over again as new runs: the queue knows them no more."""
    for job_id in job_ids:
        job = session.get(Job, job_id)
        if job is not None and job.state is State.QUEUED:
            job.run, job.handed = job.run + 1, False
            session.add(job)


def sweep(session: Session, *, before_ms: int) -> int:
    """Drop jobs that ended before; return how many."""
    statement = delete(Job).where(
        col(Job.state).in_(ENDED), col(Job.finished_ms) < before_ms
    )
    return session.exec(statement).rowcount


def _turn(session: Session, lane: str) -> int:
    started = select(func.max(Job.turn)).where(col(Job.started_ms).is_not(None))
    in_lane = select(func.max(Job.turn)).where(Job.lane == lane, col(Job.state).in_(OPEN))
    return next_turn(session.exec(started).one() or 0, session.exec(in_lane).one() or 0)


def _end(session: Session, kinds: Kinds, job: Job, error: AppError, at_ms: int) -> None:
    """Write down why a job ended without a result, and let its kind do what follows."""
    job.code, job.reason, job.hint = error.code, error.what, error.hint
    job.finished_ms = at_ms
    session.add(job)
    session.flush()
    try:
        with session.begin_nested():
            kinds.get(job.kind).on_failed(session, job, error)
    except AppError:
        # the job has ended all the same: what follows is mended by whoever sees it
        log.exception("job %s (%s %s) ended; its kind failed", job.id, job.kind, job.key)
