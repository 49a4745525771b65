"""Does runs of jobs, from taking the row to writing down how it ended."""

import logging
import threading
from functools import partial

from modelfleet_server.jobs import service
from modelfleet_server.jobs.domain import Progress, State
from modelfleet_server.jobs.errors import DefectError, StopRunError
from modelfleet_server.jobs.kinds import Kinds
from modelfleet_server.jobs.run import Keep, Run, Ticket
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.clock import Clock, now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import AppError, UnavailableError

log = logging.getLogger(__name__)


class Performer:
    """Does runs in the threads that call it.

    Args:
        database: Where jobs are.
        kinds: What it knows to do.
        executor: Id of this process.
        keep: Runs steps and keeps what they return.
        clock: Unix milliseconds.
    """

    def __init__(
        self,
        database: Database,
        kinds: Kinds,
        executor: str,
        keep: Keep,
        clock: Clock = now_ms,
    ) -> None:
        self._database, self._kinds = database, kinds
        self._executor, self._keep, self._clock = executor, keep, clock
        self._stopping = threading.Event()
        self._claimed: set[tuple[str, int]] = set()
        self._active: dict[Ticket, Run] = {}
        self._again: list[tuple[str, int]] = []

    def perform(self, job_id: str, run: int) -> None:
        """Do a run to its end.

        Raises:
            StopRunError: Not to its end: another process, or this one later, goes on.
        """
        if self._stopping.is_set():
            raise StopRunError
        claim = (job_id, run)
        self._claimed.add(claim)
        try:
            with self._database.write() as session:
                job = service.begin(
                    session, job_id, run, self._executor, at_ms=self._clock()
                )
            if job is not None:
                self._work(job)
        finally:
            self._claimed.discard(claim)

    def stop(self) -> None:
        """Let every run end soon, and begin none."""
        self._stopping.set()
        for run in list(self._active.values()):
            run.stop.set()

    def is_idle(self) -> bool:
        """Say whether nothing runs."""
        return not self._claimed

    def stop_lost(self) -> None:
        """Let those runs end that were cancelled, or taken over by another process."""
        active = dict(self._active)
        if not active:
            return
        with self._database.read() as session:
            for ticket, run in active.items():
                if service.find_held(session, ticket) is None:
                    run.stop.set()

    def find_stray(self, running: list[Job]) -> list[Job]:
        """Return those of these jobs of this executor that no thread works at.

        Call it in the transaction that read them: then none of them can begin or end.
        """
        claimed = set(self._claimed)
        return [job for job in running if (job.id, job.run) not in claimed]

    def take_again(self) -> list[tuple[str, int]]:
        """Return the runs that the world was in the way of, once."""
        again, self._again = self._again, []
        return again

    def _work(self, job: Job) -> None:
        ticket = Ticket(job.id, self._executor, job.starts)
        run = Run(job, self._keep, partial(self._note, ticket))
        self._active[ticket] = run
        if self._stopping.is_set():
            run.stop.set()
        try:
            self._to_end(ticket, run)
        except StopRunError:
            with self._database.write() as session:
                service.put_back(
                    session, ticket
                )  # where it is still ours: the server stops
                cancelled = service.get_job(session, job.id).state is State.CANCELLED
            if not cancelled:  # else this run is over for the queue, too
                raise
        except UnavailableError as error:
            log.warning("%s waits: %s", _name(job), error)
            self._lose(ticket)
            raise StopRunError from error
        except AppError as error:
            self._fail(ticket, job, error)
        except Exception as error:
            log.exception("%s", _name(job))
            self._fail(ticket, job, _defect(error))
        finally:
            del self._active[ticket]

    def _to_end(self, ticket: Ticket, run: Run) -> None:
        kind = self._kinds.get(run.job.kind)
        result = kind.work(run)
        run.check()
        with self._database.write() as session:
            job = service.finish(session, ticket, at_ms=self._clock())
            if job is None:
                raise StopRunError
            kind.on_done(session, job, result)

    def _note(self, ticket: Ticket, progress: Progress) -> bool:
        with self._database.write() as session:
            return service.note_progress(session, ticket, progress)

    def _lose(self, ticket: Ticket) -> None:
        with self._database.write() as session:
            job = service.find_held(session, ticket)
            if job is None:
                return
            service.lose(session, self._kinds, [job], at_ms=self._clock())
        self._again.append((job.id, job.run))

    def _fail(self, ticket: Ticket, job: Job, error: AppError) -> None:
        log.warning("%s failed: %s", _name(job), error)
        with self._database.write() as session:
            service.fail(session, self._kinds, ticket, error, at_ms=self._clock())


def _name(job: Job) -> str:
    return f"job {job.id} ({job.kind} {job.key})"


def _defect(error: Exception) -> DefectError:
    return DefectError(
        f"the server failed while it worked: {type(error).__name__}: {error}",
        "This is a defect; the server's log has the details.",
    )
