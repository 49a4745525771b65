"""Real worker processes for tests of jobs: `-m tests.support.workers URL HOME PLACES`.

They know two kinds. `steps` does as many steps as its payload says and writes a line into
`HOME/log` as each begins and ends; while the file `HOME/hold` names a step (`KEY STEP`), it
does not end. `meet` ends once as many jobs run at the same time as its payload says.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
from sqlmodel import Session

from modelfleet_server.jobs import service
from modelfleet_server.jobs.engine import Engine, Place
from modelfleet_server.jobs.errors import StopRunError
from modelfleet_server.jobs.kinds import Kind, Kinds
from modelfleet_server.jobs.run import Run
from modelfleet_server.jobs.service import Wish
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import AppError, InvalidError

ROOT = Path(__file__).parents[2]


class Steps(msgspec.Struct):
    """How many steps, and which of them is at fault (0 for none)."""

    count: int
    bad: int = 0


class BadStepError(InvalidError):
    """A step of a test that fails."""

    code = "bad-step"


def write(home: Path, line: str) -> None:
    """Append a line to the log, whole also where several processes do."""
    fd = os.open(home / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def read(home: Path, word: str = "") -> list[str]:
    """Return the lines of the log that begin with `word`, without it."""
    try:
        lines = (home / "log").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line.removeprefix(word).strip() for line in lines if line.startswith(word)]


def make_kinds(home: Path) -> Kinds:
    """Return the kinds that these workers know."""

    def done(_session: Session, job: Job, total: int) -> None:
        write(home, f"done {job.key} {total}")

    def failed(_session: Session, job: Job, error: AppError) -> None:
        write(home, f"failed {job.key} {error.code}")

    kinds = Kinds()
    kinds.register(Kind("steps", partial(_steps, home), done, failed))
    kinds.register(Kind("meet", _meet))
    return kinds


def _steps(home: Path, run: Run) -> int:
    asked = run.payload(Steps)
    total = 0
    for number in range(1, asked.count + 1):
        run.progress(f"step {number}", number - 1, asked.count)
        total += run.step(f"step-{number}", partial(_step, home, run, number), int)
        if number == asked.bad:
            raise BadStepError(f"step {number} is bad", "Ask for a good one.")
    return total


def _step(home: Path, run: Run, number: int) -> int:
    name = f"{run.job.key} {number}"
    write(home, f"begin {name}")
    while (home / "hold").exists() and (home / "hold").read_text() == name:
        if run.stop.wait(0.01):
            raise StopRunError
    write(home, f"end {name}")
    return number


_running: Counter[str] = Counter()
_changed = threading.Condition()


def _meet(run: Run) -> None:
    wanted = run.payload(Steps).count
    with _changed:
        _running["now"] += 1
        _changed.notify_all()
        _changed.wait_for(lambda: _running["now"] >= wanted or run.stop.is_set(), 20)
    if _running["now"] < wanted:
        raise BadStepError(f"{_running['now']} ran at the same time, not {wanted}")


def ask(database: Database, key: str, *, count: int = 1, **how: object) -> str:
    """Ask for a job of `steps`; return its id. Also `lane`, `kind`, `bad`, `again`."""
    wish = Wish(
        str(how.get("kind", "steps")),
        key,
        str(how.get("lane", "lane")),
        Steps(count, int(str(how.get("bad", 0)))),
    )
    with database.write() as session:
        return service.submit(
            session, wish, actor="user:ada", at_ms=now_ms(), again=bool(how.get("again"))
        ).id


def find(database: Database, job_id: str) -> Job:
    """Return a job as it is now."""
    with database.read() as session:
        return service.get_job(session, job_id)


@contextlib.contextmanager
def running(
    url: str, home: Path, *, places: int = 1, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker process; end it in good order if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.workers", url, str(home), str(places)],
        cwd=ROOT,
        env=os.environ | (environment or {}),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End it as a power cut would."""
    process.kill()
    process.wait(20)


def main(url: str, home: Path, places: int) -> None:
    """Take jobs until SIGTERM."""
    database = Database(url)
    engine = Engine(Place.of(database, home), make_kinds(home), workers=places)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    engine.start()
    write(home, f"started {os.getpid()}")
    while not stopping.is_set():
        time.sleep(0.02)
    engine.stop()
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
