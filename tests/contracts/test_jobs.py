"""Jobs on SQLite and on PostgreSQL: real worker processes, killed and stopped.

The six traps of DBOS that we found each have a test here; their names begin with its
number. See docs/adr on jobs.
"""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url
from sqlmodel import select
from tests.support.databases import database_url, postgresql
from tests.support.waiting import eventually
from tests.support.workers import Steps, ask, find, kill, make_kinds, read, running

from modelfleet_server import migrations
from modelfleet_server.jobs import durable, service
from modelfleet_server.jobs.domain import State
from modelfleet_server.jobs.engine import DAY_MS, Engine, Place
from modelfleet_server.jobs.tables import Executor, Job
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database

__all__ = ["database_url", "postgresql"]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    migrations.create_all(database)
    yield database
    database.close()


def until(database: Database, job_id: str, state: State) -> Job:
    eventually(lambda: find(database, job_id).state is state, f"the job is {state}")
    return find(database, job_id)


def hold(home: Path, what: str) -> None:
    (home / "hold.new").write_text(what)
    (home / "hold.new").rename(home / "hold")


def query(database: Database, home: Path, statement: str) -> list[tuple[object, ...]]:
    """Read what DBOS stored, with another client than its own."""
    if database.url.startswith("sqlite"):
        connection = sqlite3.connect(home / "jobs.db")
        try:
            return connection.execute(statement.replace("dbos.", "")).fetchall()
        finally:
            connection.close()
    plain = make_url(database.url).set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(hide_password=False)) as client:
        return client.execute(statement.encode()).fetchall()


def test_1_what_a_killed_process_ran_goes_on_in_another_at_the_step_it_was_at(
    database: Database, tmp_path: Path
) -> None:
    """No step that ended is done again, whichever step the kill came in."""
    job = ask(database, "a", count=3)
    for number in (1, 2):
        hold(tmp_path, f"a {number}")
        with running(database.url, tmp_path) as process:
            eventually(lambda n=number: f"a {n}" in read(tmp_path, "begin"), "it works")  # type: ignore[misc]
            kill(process)
    hold(tmp_path, "nothing")
    with running(database.url, tmp_path):
        ended = until(database, job, State.DONE)
    assert read(tmp_path, "begin") == ["a 1", "a 1", "a 2", "a 2", "a 3"]
    assert read(tmp_path, "end") == ["a 1", "a 2", "a 3"]
    assert read(tmp_path, "done") == ["a 6"]
    assert (ended.starts, ended.losses) == (3, 2)


@pytest.mark.slow
def test_1_what_takes_three_processes_with_it_has_failed(
    database: Database, tmp_path: Path
) -> None:
    job = ask(database, "a")
    hold(tmp_path, "a 1")
    for number in range(3):
        with running(database.url, tmp_path) as process:
            eventually(
                lambda n=number: len(read(tmp_path, "begin")) > n,  # type: ignore[misc]
                "it works",
            )
            kill(process)
    with running(database.url, tmp_path):
        ended = until(database, job, State.FAILED)
    assert ended.code == "job-lost"
    assert read(tmp_path, "failed") == ["a job-lost"]


@pytest.mark.slow
def test_1_one_that_lives_takes_over_what_a_killed_one_held(
    database: Database, tmp_path: Path
) -> None:
    """Nobody is started anew: the reaper is the process that is there."""
    jobs = [ask(database, f"{number}", lane=f"{number}") for number in range(2)]
    hold(tmp_path, "0 1")
    with ExitStack() as stack:
        both = [stack.enter_context(running(database.url, tmp_path)) for _ in range(2)]
        until(database, jobs[1], State.DONE)
        until(database, jobs[0], State.RUNNING)
        with database.read() as session:
            owner = session.get(Executor, find(database, jobs[0]).executor)
        assert owner is not None
        kill(next(one for one in both if one.pid == owner.pid))
        hold(tmp_path, "nothing")
        ended = until(database, jobs[0], State.DONE)
    assert (ended.starts, ended.losses) == (2, 1)


@pytest.mark.slow
def test_1_one_that_is_stopped_in_good_order_hands_over_and_loses_nothing(
    database: Database, tmp_path: Path
) -> None:
    job = ask(database, "a", count=2)
    hold(tmp_path, "a 2")
    with running(database.url, tmp_path) as process:
        eventually(lambda: "a 2" in read(tmp_path, "begin"), "it works")
        process.terminate()
        assert process.wait(20) == 0
    assert find(database, job).state is State.QUEUED
    hold(tmp_path, "nothing")
    with running(database.url, tmp_path):
        ended = until(database, job, State.DONE)
    assert (ended.starts, ended.losses) == (2, 0)
    assert read(tmp_path, "end") == ["a 1", "a 2"]


@pytest.mark.slow
def test_2_and_3_one_version_for_ever_and_each_process_has_its_own_name(
    database: Database, tmp_path: Path
) -> None:
    """A job is never left to a release that is gone, nor to a process of the same name."""
    jobs = [ask(database, f"{number}", lane=f"{number}") for number in range(4)]
    with running(database.url, tmp_path), running(database.url, tmp_path):
        for job in jobs:
            until(database, job, State.DONE)
        with database.read() as session:
            names = [one.id for one in session.exec(select(Executor)).all()]
    rows = query(
        database,
        tmp_path,
        "SELECT application_version, executor_id FROM dbos.workflow_status",
    )
    assert {version for version, _ in rows} == {durable.VERSION} == {"jobs-1"}
    assert len(set(names)) == 2
    assert {executor for _, executor in rows} <= set(names)
    assert "local" not in names


@pytest.mark.slow
def test_4_jobs_are_handed_over_in_batches_and_as_many_run_as_there_are_places(
    database: Database, tmp_path: Path
) -> None:
    """Eight that wait for each other end only if one process runs all eight."""
    jobs = [ask(database, f"{number}", count=8, kind="meet") for number in range(8)]
    with running(database.url, tmp_path, places=8):
        for job in jobs:
            until(database, job, State.DONE)


def test_4_a_lane_with_many_jobs_starves_no_other(
    database: Database, tmp_path: Path
) -> None:
    many = [ask(database, f"big-{number}", lane="big") for number in range(4)]
    few = [ask(database, f"small-{number}", lane="small") for number in range(2)]
    with running(database.url, tmp_path):
        for job in (*many, *few):
            until(database, job, State.DONE)
    order = [line.split("-")[0] for line in read(tmp_path, "begin")]
    assert order == ["big", "small", "big", "small", "big", "big"]


def test_5_a_job_is_asked_for_if_and_only_if_the_transaction_commits(
    database: Database, tmp_path: Path
) -> None:
    """The queue is another database: the row is the outbox, and nothing is asked twice."""
    wish = service.Wish("steps", "a", "lane", Steps(1))

    def ask_and_fail() -> None:
        with database.write() as session:
            service.submit(session, wish, actor="user:ada", at_ms=1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask_and_fail()
    with database.write() as session:
        first = service.submit(session, wish, actor="user:ada", at_ms=1)
        assert service.submit(session, wish, actor="user:bob", at_ms=2).id == first.id
    with running(database.url, tmp_path):
        until(database, first.id, State.DONE)
    assert read(tmp_path, "done") == ["a 1"]


@pytest.mark.slow
def test_5_the_queue_has_a_file_of_its_own_with_a_write_ahead_log(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'modelfleet.db'}")
    migrations.create_all(database)
    job = ask(database, "a")
    with running(database.url, tmp_path):
        until(database, job, State.DONE)
    assert query(database, tmp_path, "PRAGMA journal_mode") == [("wal",)]
    with database.read() as session:
        tables = session.connection().exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE name LIKE 'workflow%'"
        )
        assert tables.fetchall() == []
    database.close()


@pytest.mark.slow
def test_5_a_queue_that_was_lost_is_filled_again_from_the_rows(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'modelfleet.db'}")
    migrations.create_all(database)
    hold(tmp_path, "a 1")
    first, second = ask(database, "a"), ask(database, "b")
    with running(database.url, tmp_path) as process:
        until(database, first, State.RUNNING)
        eventually(lambda: find(database, second).handed, "it is in the queue")
        kill(process)
    for file in tmp_path.glob("jobs.db*"):
        file.unlink()
    hold(tmp_path, "nothing")
    with running(database.url, tmp_path):
        until(database, first, State.DONE)
        until(database, second, State.DONE)
    database.close()


@pytest.mark.slow
def test_6_what_is_stored_is_json_and_is_dropped_when_it_is_old(
    database: Database, tmp_path: Path
) -> None:
    jobs = [ask(database, "a", count=2), ask(database, "b", count=2, bad=1)]
    with running(database.url, tmp_path):
        until(database, jobs[0], State.DONE)
        until(database, jobs[1], State.FAILED)
    stored = query(
        database,
        tmp_path,
        "SELECT output, serialization FROM dbos.operation_outputs",
    )
    assert len(stored) == 3
    for output, serialization in stored:
        assert json.loads(json.loads(str(output))) in (1, 2)
        assert serialization == "portable_json"
    assert query(database, tmp_path, "SELECT count(*) FROM dbos.workflow_status") == [(2,)]

    later = now_ms() + 31 * DAY_MS
    engine = Engine(Place.of(database, tmp_path), make_kinds(tmp_path), clock=lambda: later)
    engine.start()
    eventually(lambda: count_jobs(database) == 0, "old jobs are dropped")
    engine.stop()
    for table in ("workflow_status", "operation_outputs"):
        assert query(database, tmp_path, f"SELECT count(*) FROM dbos.{table}") == [(0,)]


@pytest.mark.slow
def test_a_job_that_waits_and_one_that_runs_are_cancelled(
    database: Database, tmp_path: Path
) -> None:
    hold(tmp_path, "a 1")
    first, second = ask(database, "a"), ask(database, "b")
    kinds = make_kinds(tmp_path)
    with running(database.url, tmp_path):
        until(database, first, State.RUNNING)
        for job in (first, second):
            with database.write() as session:
                service.cancel(session, kinds, job, actor="user:ada", at_ms=now_ms())
        third = ask(database, "c")
        until(database, third, State.DONE)
        again = ask(database, "b", again=True)
        assert again == second
        until(database, again, State.DONE)
    assert read(tmp_path, "failed") == ["a job-cancelled", "b job-cancelled"]
    assert read(tmp_path, "end") == ["c 1", "b 1"]
    assert find(database, first).state is State.CANCELLED


@pytest.mark.slow
def test_nothing_leaves_the_machine_and_nothing_listens(
    database: Database, tmp_path: Path
) -> None:
    """Whatever DBOS finds in the environment: no Conductor, no cloud, no admin server."""
    job = ask(database, "a")
    hold(tmp_path, "a 1")
    lure = {
        "DBOS__CLOUD": "true",
        "DBOS__CONDUCTOR_KEY": "key",
        "DBOS__CONDUCTOR_URL": "ws://127.0.0.1:9",
        "DBOS__CONDUCTOR_APP_NAME": "modelfleet",
        "DBOS__VMID": "local",
    }
    with running(database.url, tmp_path, environment=lure) as process:
        until(database, job, State.RUNNING)
        assert internet_sockets(process.pid) == []
        with database.read() as session:
            assert session.exec(select(Executor.id)).one() != "local"


def test_a_server_without_the_worker_never_imports_dbos() -> None:
    code = (
        "import sys, modelfleet_server.app\n"
        "assert 'dbos' not in sys.modules and 'psycopg' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def internet_sockets(pid: int) -> list[str]:
    """Return the IPv4 and IPv6 sockets that a process has open, of any state."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # that of the look itself
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        lines = Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]
        found += [line for line in lines if line.split()[9] in inodes]
    return found


def test_the_look_for_sockets_sees_one() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        assert len(internet_sockets(os.getpid())) >= 1


def count_jobs(database: Database) -> int:
    with database.read() as session:
        return len(session.exec(select(Job)).all())
