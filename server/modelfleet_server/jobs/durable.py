"""The only module that knows DBOS: a queue of runs, and what their steps returned.

DBOS keeps its own tables: a file `jobs.db` beside the server's database, or a schema of the
same PostgreSQL. They hold ids, turns and step results and nothing that anybody is shown;
without them, jobs that had not ended begin anew. What is set here, and why:

* one application version for ever: a job of an older release must not be stranded. Raise
  it only where a job in flight could not go on with the new code.
* JSON and never pickle: whoever can write to the database must not run code here.
* no Conductor, no telemetry, nothing of `DBOS...` in the environment: nothing leaves.
* write-ahead log on SQLite: readers and the queue's poll do not wait for each other.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from modelfleet_server.kit.errors import ConflictError

if TYPE_CHECKING:
    from dbos import DBOSConfig

VERSION = "jobs-1"
QUEUE = "jobs"
WORKFLOW = "job"
POLL_S = 0.25
"""How often a process looks for a job; two processors' worth of polls is 1 % of one."""
BATCH = 500
"""At most so many runs are looked at or dropped at a time."""
_GONE = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})
_only_one = threading.Lock()

Perform = Callable[[str, int], None]
"""Does a run (job id and run) to its end; `StopRunError` leaves it for another process."""


class Durable:
    """The queue in this process, one per process.

    Args:
        url: SQLAlchemy URL of its tables.
        executor: Id of this process, never used before.
        perform: Does a run.
        workers: How many run at once in one process.
    """

    def __init__(self, url: str, executor: str, perform: Perform, *, workers: int) -> None:
        self._url, self._executor = url, executor
        self._perform, self._workers = perform, workers

    def claim(self) -> None:
        """Be the one in this process.

        Raises:
            ConflictError: Another one is.
        """
        if not _only_one.acquire(blocking=False):
            raise ConflictError(
                "this process takes jobs already", "Start another process for more."
            )

    def release(self) -> None:
        """Let another one be it."""
        _only_one.release()

    def open(self) -> None:
        """Make or migrate its tables, and begin to take runs."""
        for name in [name for name in os.environ if name.startswith("DBOS")]:
            del os.environ[name]
        from dbos import DBOS  # noqa: PLC0415 0.6 s, and only workers need it

        logger = logging.getLogger("dbos")
        logger.handlers.clear()  # its own, to the console; ours is enough
        logger.propagate = True
        _set_wal(self._url)
        DBOS(config=self._config())

        def job(job_id: str, run: int) -> None:
            self._perform(job_id, run)

        try:
            DBOS.workflow(name=WORKFLOW)(job)
            DBOS.launch()
            DBOS.register_queue(
                QUEUE,
                worker_concurrency=self._workers,
                polling_interval_sec=POLL_S,
                on_conflict="always_update",
            )
        except Exception:
            DBOS.destroy(destroy_registry=True)
            raise

    def close(self) -> None:
        """Take no more runs. Whoever runs one still was told to stop."""
        from dbos import DBOS  # noqa: PLC0415

        DBOS.destroy(destroy_registry=True)

    def hand(self, job_id: str, run: int, turn: int) -> None:
        """Put a run into the queue; twice does no harm."""
        from dbos import DBOS  # noqa: PLC0415

        DBOS.enqueue_workflow_with_options(
            {
                "workflow_name": WORKFLOW,
                "queue_name": QUEUE,
                "workflow_id": _id(job_id, run),
                "priority": turn,
                "app_version": VERSION,
            },
            job_id,
            run,
        )

    def find_unknown(self, runs: Sequence[tuple[str, int]]) -> list[str]:
        """Return those jobs whose run is not in the queue, or ended there."""
        from dbos import DBOS  # noqa: PLC0415

        open_ones: set[str] = set()
        for start in range(0, len(runs), BATCH):
            ids = [_id(*run) for run in runs[start : start + BATCH]]
            found = DBOS.list_workflows(
                workflow_ids=ids, load_input=False, load_output=False
            )
            open_ones |= {one.workflow_id for one in found if one.status not in _GONE}
        return [run[0] for run in runs if _id(*run) not in open_ones]

    def resume(self, runs: Sequence[tuple[str, int]]) -> None:
        """Put runs that this process took back into the queue."""
        from dbos import DBOS  # noqa: PLC0415

        DBOS.resume_workflows([_id(*run) for run in runs], queue_name=QUEUE)

    def take_over(self, executors: Collection[str]) -> int:
        """Put back into the queue what dead processes held; return how many runs."""
        from dbos import DBOS  # noqa: PLC0415

        found = DBOS.list_workflows(
            status="PENDING",
            executor_id=list(executors),
            load_input=False,
            load_output=False,
        )
        if found:
            DBOS.resume_workflows([one.workflow_id for one in found], queue_name=QUEUE)
        return len(found)

    def sweep(self, before_ms: int) -> int:
        """Drop runs that ended before, with what their steps returned; say how many."""
        from dbos import DBOS  # noqa: PLC0415

        found = DBOS.list_workflows(
            status=sorted(_GONE),
            completed_before=datetime.fromtimestamp(before_ms / 1000, UTC).isoformat(),
            limit=BATCH,
            load_input=False,
            load_output=False,
        )
        if found:
            DBOS.delete_workflows([one.workflow_id for one in found])
        return len(found)

    def _config(self) -> "DBOSConfig":
        from dbos import DBOSPortableJSONSerializer  # noqa: PLC0415

        return {
            "name": "modelfleet",
            "system_database_url": self._url,
            "application_version": VERSION,
            "executor_id": self._executor,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
            "use_listen_notify": False,
            # both only wake what we do not use; the first is how long a stop takes
            "notification_listener_polling_interval_sec": 0.25,
            "scheduler_polling_interval_sec": 3600.0,
        }


def keep(name: str, do: Callable[[], str]) -> str:
    """Run a step of the run in this thread, or return what it returned before."""
    from dbos import DBOS  # noqa: PLC0415

    return DBOS.run_step({"name": name}, do)


def _id(job_id: str, run: int) -> str:
    return f"{job_id}-{run}"


def _set_wal(url: str) -> None:
    """Set what stays set in an SQLite file; DBOS itself leaves the default."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database is None:
        return
    connection = sqlite3.connect(parsed.database, timeout=30)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
