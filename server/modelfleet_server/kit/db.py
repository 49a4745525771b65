"""One database, many threads: short readers, one writer at a time.

Services get a session and never commit; whoever opened the session does, by leaving the
`with`. Rules that make SQLite in WAL mode calm:

* A reader never becomes a writer. `read()` sessions refuse to write, so the upgrade that
  fails at once with SQLITE_BUSY_SNAPSHOT cannot happen.
* A writer says so from the start (`BEGIN IMMEDIATE`, on PostgreSQL an advisory lock), so
  what it read is still true when it writes: `max(counter) + 1` is safe without row locks.
* Writers of this process queue in a lock, which wakes them at once; SQLite's own busy
  handler sleeps and starves. Other processes are waited for by `busy_timeout`.
* A transaction begins with the session's first statement, not with the `with`. Compute,
  hash and read files *before* that statement; nobody else writes while a writer thinks.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlmodel import Session

from modelfleet_server.kit.errors import UnavailableError

log = logging.getLogger(__name__)

WAIT_S = 30
"""How long a writer waits for its turn, in seconds."""

POOL_SIZE = 64
"""More than the API's 40 threads and the loops together: nobody waits for a connection."""

ADVISORY_LOCK = 0x6D66  # any number, the same in every process
_HOOKS = "modelfleet.after_commit"
_TURN = "modelfleet_turn"


class _Turn:
    """A transaction's claim on the writer lock; taken at its first statement."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._held = False

    def take(self) -> None:
        if self._held:  # a second BEGIN of the same session, after its own commit
            return
        if not self._lock.acquire(timeout=WAIT_S):
            raise UnavailableError(
                f"the database was busy with other writers for {WAIT_S} s",
                "Try again; if it stays so, a write transaction is stuck or nested.",
            )
        self._held = True

    def give_back(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()


class Database:
    """The server's database; one per process, shared by all threads.

    Args:
        url: SQLAlchemy URL, `sqlite:////absolute/path.db` or `postgresql+psycopg://...`.
        enforce_keys: Check foreign keys on SQLite; only migrations may not want that.
    """

    def __init__(self, url: str, *, enforce_keys: bool = True) -> None:
        self.url = url
        self.engine = _make_engine(url, enforce_keys=enforce_keys)
        self._writer = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session that sees one consistent state and refuses to write."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give the one writing session; commit at the end, roll back on an exception.

        Then call what `after_commit` registered. Do not nest: the inner one waits for the
        outer one until it gives up.

        Raises:
            UnavailableError: Another writer did not finish within `WAIT_S`; raised by the
                first statement.
        """
        turn = _Turn(self._writer)
        engine = self.engine.execution_options(**{_TURN: turn})
        try:
            with Session(engine, expire_on_commit=False) as session:
                hooks: list[Callable[[], None]] = []
                session.info[_HOOKS] = hooks
                yield session
                session.commit()
        finally:
            turn.give_back()
        for hook in hooks:
            _call(hook)

    def close(self) -> None:
        """Close all connections; the last one folds the write-ahead log into the file."""
        self.engine.dispose()


def after_commit(session: Session, hook: Callable[[], None]) -> None:
    """Call `hook` once the transaction of this `write()` session is durable.

    It runs in the writer's thread, in order of registration, without the writer lock (so
    it may open a session of its own), and never after a rollback. The commit stands
    whatever it does: an exception in it is logged, and the next hook is called.
    """
    hooks: list[Callable[[], None]] | None = session.info.get(_HOOKS)
    if hooks is None:
        raise RuntimeError("after_commit() in a session that is not of Database.write()")
    hooks.append(hook)


def _call(hook: Callable[[], None]) -> None:
    try:
        hook()
    except Exception:
        log.exception("a hook after commit failed")


def _make_engine(url: str, *, enforce_keys: bool) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        engine = create_engine(url, pool_size=POOL_SIZE, pool_pre_ping=True)
        event.listen(engine, "begin", _begin_postgresql)
        return engine
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        # dependency, route and commit may run in three threads, one after another
        connect_args={
            "check_same_thread": False,
            "timeout": WAIT_S,
            "isolation_level": None,  # the driver must not send BEGIN by itself
        },
    )
    event.listen(engine, "connect", partial(_set_up_sqlite, enforce_keys=enforce_keys))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(
    connection: DBAPIConnection, _record: object, *, enforce_keys: bool
) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",  # a power cut may lose the last commits, never the file
        f"foreign_keys = {int(enforce_keys)}",
        f"busy_timeout = {WAIT_S * 1000}",
    ):
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    turn: _Turn | None = connection.get_execution_options().get(_TURN)
    if turn is None:
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.exec_driver_sql("BEGIN")
    else:
        turn.take()
        connection.exec_driver_sql("PRAGMA query_only = OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    turn: _Turn | None = connection.get_execution_options().get(_TURN)
    if turn is None:
        connection.exec_driver_sql(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
        )
    else:
        turn.take()
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
