"""Jobs as rows: asked for once, done once, and only by who holds them."""

import msgspec
import pytest
from tests.support.jobs import EXECUTOR, kinds_of, make_performer, work_off

from modelfleet_server.jobs import service
from modelfleet_server.jobs.domain import State
from modelfleet_server.jobs.errors import JobNotFoundError, StopRunError
from modelfleet_server.jobs.kinds import Kind, Kinds
from modelfleet_server.jobs.run import Run, Ticket
from modelfleet_server.jobs.service import Wish
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import ConflictError, InvalidError, UnavailableError


class Number(msgspec.Struct):
    """A payload."""

    n: int = 1


def ask(database: Database, key: str = "a", kind: str = "sum", **how: bool) -> Job:
    with database.write() as session:
        wish = Wish(kind, key, "lane", Number())
        return service.submit(session, wish, actor="user:ada", at_ms=1, **how)


def now(database: Database, job: Job) -> Job:
    with database.read() as session:
        return service.get_job(session, job.id)


def make_kind(results: list[object], *, error: Exception | None = None) -> Kind:
    def work(run: Run) -> int:
        if error is not None:
            raise error
        return run.step("double", lambda: run.payload(Number).n * 2, int)

    return Kind(
        "sum",
        work,
        lambda _session, job, result: results.append((job.key, result)),
        lambda _session, job, why: results.append((job.key, why.code)),
    )


def test_a_job_is_asked_for_once_and_again_only_when_told(database: Database) -> None:
    results: list[object] = []
    kind = make_kind(results)
    first = ask(database)
    assert ask(database).id == first.id
    assert work_off(database, kind) == 1
    assert ask(database).state is State.DONE
    assert work_off(database, kind) == 0
    assert ask(database, again=True).run == 2
    assert work_off(database, kind) == 1
    assert results == [("a", 2), ("a", 2)]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidError("the input is wrong", "Change it."), "invalid"),
        (ZeroDivisionError("a defect"), "job-defect"),
    ],
)
def test_an_error_fails_the_job_with_its_reason(
    database: Database, error: Exception, code: str
) -> None:
    results: list[object] = []
    job = ask(database)
    work_off(database, make_kind(results, error=error))
    ended = now(database, job)
    assert (ended.state, ended.code) == (State.FAILED, code)
    assert ended.reason
    assert results == [("a", code)]


def test_what_follows_and_the_end_happen_together_or_not_at_all(database: Database) -> None:
    def refuse(session: object, job: Job, _result: object) -> None:
        job.hint = "half written"
        raise ConflictError("the catalog does not take it", "Ask somebody.")

    job = ask(database)
    work_off(database, Kind("sum", lambda _run: 1, refuse))
    ended = now(database, job)
    assert (ended.state, ended.code) == (State.FAILED, "conflict")
    assert ended.hint == "Ask somebody."


def test_a_job_of_an_unknown_kind_says_so(database: Database) -> None:
    job = ask(database, kind="magic")
    work_off(database, make_kind([]))
    assert "magic" in now(database, job).reason


def test_the_world_in_the_way_is_tried_again_and_three_times_at_most(
    database: Database,
) -> None:
    results: list[object] = []
    kind = make_kind(results, error=UnavailableError("the database is busy"))
    job = ask(database)
    performer = make_performer(database, kind)
    for losses in (1, 2, 3):
        with pytest.raises(StopRunError):
            performer.perform(job.id, 1)
        assert now(database, job).losses == losses
        assert performer.take_again() == [(job.id, 1)]
        assert performer.take_again() == []
    assert results == [("a", "job-lost")]


def test_a_process_that_was_taken_for_dead_writes_nothing(database: Database) -> None:
    """Its job went on elsewhere: neither its progress nor its result counts."""
    results: list[object] = []
    kinds = kinds_of(make_kind(results))
    job = ask(database)
    with database.write() as session:
        service.begin(session, job.id, 1, "slow", at_ms=2)
        service.lose(session, kinds, service.list_running(session, ["slow"]), at_ms=3)
    slow = Ticket(job.id, "slow", 1)
    for holder in (None, "other", "slow"):
        with database.write() as session:
            if holder is not None:
                assert service.begin(session, job.id, 1, holder, at_ms=4)
            assert service.find_held(session, slow) is None
            assert service.finish(session, slow, at_ms=5) is None
            error = InvalidError("no")
            assert service.fail(session, kinds, slow, error, at_ms=5) is None
            service.put_back(session, slow)
            if holder is not None:
                held = service.list_running(session, [holder])
                assert [one.id for one in held] == [job.id]
                service.lose(session, kinds, held, at_ms=6)
    assert results == [("a", "job-lost")]


def test_a_run_that_is_not_wanted_any_more_is_not_begun(database: Database) -> None:
    job = ask(database)
    with database.write() as session:
        assert service.begin(session, job.id, 2, EXECUTOR, at_ms=2) is None
        assert service.begin(session, "nobody", 1, EXECUTOR, at_ms=2) is None
        assert service.begin(session, job.id, 1, EXECUTOR, at_ms=2)
        assert service.begin(session, job.id, 1, "other", at_ms=2) is None


def test_old_jobs_are_dropped_and_open_ones_never(database: Database) -> None:
    done, waits = ask(database, "a"), ask(database, "b")
    make_performer(database, make_kind([])).perform(done.id, 1)
    with database.write() as session:
        assert service.sweep(session, before_ms=1) == 0
        assert service.sweep(session, before_ms=10**15) == 1
    assert now(database, waits).state is State.QUEUED
    with pytest.raises(JobNotFoundError):
        now(database, done)


def test_a_kind_is_registered_once() -> None:
    kinds = Kinds()
    kinds.register(make_kind([]))
    with pytest.raises(ValueError, match="sum"):
        kinds.register(make_kind([]))
