"""`modelfleet serve --role worker`: several processes beside one API, and a real build."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlmodel import col, select
from tests.server.builds.desk import Desk
from tests.support.commands import PATHS, ROOT, RUN
from tests.support.server import ServerUnderTest
from tests.support.waiting import eventually

from modelfleet_server.builds import service as builds
from modelfleet_server.builds.domain import State
from modelfleet_server.jobs.domain import State as JobState
from modelfleet_server.jobs.tables import Executor, Job
from modelfleet_server.kit.db import Database


@contextmanager
def worker(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run one; end it in good order if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "serve", "--home", str(home), "--role", "worker"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": PATHS},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


def executors(database: Database) -> dict[int, str]:
    """Return the names of those that live, by their process."""
    with database.read() as session:
        rows = session.exec(select(Executor).where(col(Executor.left).is_(False)))
        return {row.pid: row.id for row in rows}


def the_job(database: Database) -> Job:
    with database.read() as session:
        return session.exec(select(Job).where(Job.kind == builds.KIND)).one()


@pytest.mark.slow
def test_a_build_goes_on_in_another_worker_when_its_own_is_killed(
    server: ServerUnderTest, tmp_path: Path
) -> None:
    """Two beside an API, in one home. The API's address stays told."""
    home = server.server.settings.home
    desk = Desk(server.database, server.blobs, tmp_path)
    with worker(home) as first, worker(home) as second:
        eventually(lambda: len(executors(server.database)) == 2, "both work", 60)
        version = desk.publish("generic")
        job = eventually(lambda: of_child(server.database), "it builds", 60)
        assert job is not None
        killed = next(
            one for one in (first, second)
            if executors(server.database)[one.pid] == job.executor
        )  # fmt: skip
        killed.kill()
        killed.wait(30)
        eventually(
            lambda: the_job(server.database).state is JobState.DONE, "it is built", 90
        )
    job = the_job(server.database)
    assert (job.starts, job.losses) == (2, 1)
    with server.database.read() as session:
        (build,) = builds.list_builds(session, version)
    assert build.state is State.DONE
    told = json.loads(server.server.settings.address_file.read_text())
    assert told["url"] == server.url


def of_child(database: Database) -> Job | None:
    """Return the job once its child works at it."""
    job = the_job(database)
    return job if job.state is JobState.RUNNING and job.of > 0 else None


@pytest.mark.slow
def test_a_worker_stops_in_good_order(server: ServerUnderTest) -> None:
    with worker(server.server.settings.home) as process:
        eventually(lambda: executors(server.database), "it works", 60)
        process.terminate()
        assert process.wait(30) == 0
    assert executors(server.database) == {}
