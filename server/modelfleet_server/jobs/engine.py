"""Takes jobs in one process; see `Engine`.

Who does what: every engine runs jobs and shows signs of life. The one that lives longest
also leads: it hands rows over to the queue, puts back what the dead held, and drops what is
old. Signs of life and the order of rows are the lease. Two that both believe to lead for a
moment do no harm: all that they do may be done twice, and a run's `Ticket` keeps all but
one from writing.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from modelfleet_server.jobs import executors, service
from modelfleet_server.jobs.domain import Sign, Watch
from modelfleet_server.jobs.durable import Durable, keep
from modelfleet_server.jobs.kinds import Kinds
from modelfleet_server.jobs.locks import ExecutorLock, is_locked, remove
from modelfleet_server.jobs.performing import Performer
from modelfleet_server.jobs.tables import Executor
from modelfleet_server.kit.clock import Clock, now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.ids import new_id

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.25
"""How soon a job that was asked for is handed over, and one that was cancelled ends."""
BEAT_EVERY_S = 5.0
SWEEP_EVERY_S = 3600.0
STOP_S = 10.0
BATCH = 100
"""So many jobs are handed over at a time."""
DAY_MS = 86_400_000
KEEP_MS = 30 * DAY_MS


class Place(NamedTuple):
    """Where an engine works.

    Attributes:
        database: Jobs and executors.
        queue_url: SQLAlchemy URL of the queue's own tables.
        locks: Directory of the executors' locks.
    """

    database: Database
    queue_url: str
    locks: Path

    @classmethod
    def of(cls, database: Database, home: Path) -> "Place":
        """Return the place of a home: on SQLite the queue has a file of its own."""
        sqlite = database.url.startswith("sqlite")
        queue = f"sqlite:///{home / 'jobs.db'}" if sqlite else database.url
        return cls(database, queue, home / "jobs")


class Engine:
    """Takes jobs, in threads of its own; one per process, any number per database.

    Args:
        place: Where.
        kinds: What it knows to do.
        workers: How many jobs run at once; the same in all processes.
        keep_ms: How long jobs that ended are kept.
        clock: Unix milliseconds.
    """

    def __init__(
        self,
        place: Place,
        kinds: Kinds,
        *,
        workers: int = 1,
        keep_ms: int = KEEP_MS,
        clock: Clock = now_ms,
    ) -> None:
        self.id = new_id()
        self._database, queue_url, self._locks = place
        self._kinds, self._keep_ms, self._clock = kinds, keep_ms, clock
        self._performer = Performer(self._database, kinds, self.id, keep, clock)
        self._durable = Durable(
            queue_url, self.id, self._performer.perform, workers=workers
        )
        self._lock = ExecutorLock(self._locks, self.id)
        self._rota = _Rota()
        self._watch = Watch()
        self._leads = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Begin; what takes time happens in the background.

        Raises:
            ConflictError: Another engine works in this process.
        """
        self._durable.claim()
        self._lock.take()
        self._thread.start()

    def stop(self) -> None:
        """End what runs, so that another process goes on with it, and return."""
        self._stop.set()
        self._performer.stop()
        self._thread.join()
        self._lock.release()
        self._durable.release()

    def _run(self) -> None:
        if not self._open():
            return
        while not self._stop.is_set():
            try:
                self._look()
            except Exception:
                log.exception("taking jobs failed; it goes on")
            self._stop.wait(LOOK_EVERY_S)
        try:
            self._close()
        except Exception:
            log.exception("the end of taking jobs failed; another process cleans up")

    def _open(self) -> bool:
        """Open the queue, however long its database is away; False if told to stop."""
        while not self._stop.is_set():
            try:
                self._durable.open()
            except Exception:
                log.exception("the queue of jobs does not open; it tries again")
                self._stop.wait(BEAT_EVERY_S)
            else:
                return True
        return False

    def _close(self) -> None:
        deadline = time.monotonic() + STOP_S
        while not self._performer.is_idle() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._durable.close()
        with self._database.write() as session:
            executors.leave(session, self.id)

    def _look(self) -> None:
        if self._rota.is_due("beat", BEAT_EVERY_S):
            self._beat()
        self._performer.stop_lost()
        again = self._performer.take_again()
        if again:
            self._durable.resume(again)
        if self._leads:
            self._hand_over()
            if self._rota.is_due("sweep", SWEEP_EVERY_S):
                self._sweep()

    def _beat(self) -> None:
        """Show a sign of life, see who else lives, and mend what is broken."""
        me = Executor(
            id=self.id, host=socket.gethostname(), pid=os.getpid(), since_ms=self._clock()
        )
        with self._database.write() as session:
            executors.beat(session, me)
            stray = self._performer.find_stray(service.list_running(session, [self.id]))
            service.lose(session, self._kinds, stray, at_ms=self._clock())
            service.begin_anew(session, [job.id for job in stray])
            everybody = executors.list_executors(session)
        signs = [self._sign(one) for one in everybody]
        dead = set(self._watch.find_dead(signs, time.monotonic())) - {self.id}
        led, self._leads = self._leads, executors.leads(everybody, self.id, dead)
        if self._leads and dead:
            self._bury(dead)
        if self._leads and (dead or not led):
            self._recall()

    def _sign(self, executor: Executor) -> Sign:
        locked = is_locked(self._locks, executor.id)
        return Sign(executor.id, executor.beat, executor.left, locked)

    def _recall(self) -> None:
        """Hand over again what the queue ought to hold and does not: it was lost."""
        with self._database.read() as session:
            handed = [(job.id, job.run) for job in service.list_handed(session)]
        unknown = self._durable.find_unknown(handed) if handed else []
        if unknown:
            log.warning("%d jobs are not in the queue; they begin anew", len(unknown))
            with self._database.write() as session:
                service.begin_anew(session, unknown)

    def _bury(self, dead: Collection[str]) -> None:
        """Put back what the dead held. Killed in between, the next one does it again."""
        with self._database.write() as session:
            running = service.list_running(session, dead)
            service.lose(session, self._kinds, running, at_ms=self._clock())
        taken = self._durable.take_over(dead)
        if taken:
            log.warning("%d jobs go on whose process ended", taken)
        with self._database.write() as session:
            executors.forget(session, dead)
        for one in dead:
            remove(self._locks, one)

    def _hand_over(self) -> None:
        with self._database.read() as session:
            waiting = service.list_unhanded(session, BATCH)
        if not waiting:
            return
        for job in waiting:
            self._durable.hand(job.id, job.run, job.turn)
        with self._database.write() as session:
            service.mark_handed(session, [(job.id, job.run) for job in waiting])

    def _sweep(self) -> None:
        before = self._clock() - self._keep_ms
        while self._durable.sweep(before):
            pass
        with self._database.write() as session:
            service.sweep(session, before_ms=before)


class _Rota:
    """When what was done last."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def is_due(self, what: str, every_s: float) -> bool:
        """Say whether it is time, and count from now if it is."""
        now = time.monotonic()
        if what in self._last and now - self._last[what] < every_s:
            return False
        self._last[what] = now
        return True
