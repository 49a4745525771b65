"""Jobs done in the test's own thread: the real rows, kinds and hooks, without a queue."""

from collections.abc import Callable

from modelfleet_server.jobs import service
from modelfleet_server.jobs.kinds import Kind, Kinds
from modelfleet_server.jobs.performing import Performer
from modelfleet_server.jobs.run import Ticket
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import AppError

EXECUTOR = "test"


def kinds_of(*several: Kind) -> Kinds:
    """Return these kinds."""
    kinds = Kinds()
    for kind in several:
        kinds.register(kind)
    return kinds


def straight(_name: str, do: Callable[[], str]) -> str:
    """Do a step and keep nothing: these runs are not cut off."""
    return do()


def make_performer(database: Database, *several: Kind) -> Performer:
    """Return what does runs in the thread that calls it."""
    return Performer(database, kinds_of(*several), EXECUTOR, straight)


def work_once(database: Database, *several: Kind) -> bool:
    """Do the job whose turn it is to its end; say whether there was one."""
    with database.read() as session:
        waiting = service.list_unhanded(session, 1)
    for job in waiting:
        make_performer(database, *several).perform(job.id, job.run)
    return bool(waiting)


def work_off(database: Database, *several: Kind) -> int:
    """Do all jobs that wait, in turn; say how many."""
    count = 0
    while work_once(database, *several):
        count += 1
    return count


def fail_one(database: Database, kinds: Kinds, error: AppError) -> str | None:
    """Fail the job whose turn it is, as its worker would; return its key, None for none."""
    with database.write() as session:
        for waiting in service.list_unhanded(session, 1):
            job = service.begin(session, waiting.id, waiting.run, EXECUTOR, at_ms=2)
            assert job is not None
            ticket = Ticket(job.id, EXECUTOR, job.starts)
            service.fail(session, kinds, ticket, error, at_ms=3)
            return job.key
    return None
