"""What has to be done now and then: renewing what expires, dropping what is old."""

import logging
import threading
from collections.abc import Callable, Sequence

from sqlmodel import Session

from modelfleet_server.kit.clock import Clock, now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.telemetry import service as telemetry
from modelfleet_server.trust import renewing
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.expiry import propose_due
from modelfleet_server.trust.publishing import keep_fresh

log = logging.getLogger(__name__)

EVERY_S = 300.0


class Housekeeping:
    """A thread that looks every five minutes, and once at the start.

    Args:
        database: The server's.
        director: Renews its documents at half their life; its signer signs snapshot and
            timestamp anew every day.
        also: What else is due, each in a transaction of its own, with the time now.
        clock: Unix milliseconds.
    """

    def __init__(
        self,
        database: Database,
        director: Director,
        also: Sequence[Callable[[Session, int], object]] = (),
        clock: Clock = now_ms,
    ) -> None:
        self._also = also
        self._database, self._director, self._clock = database, director, clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is in hand."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.clean_once()
            except Exception:
                log.exception("housekeeping failed; it tries again later")
            if self._stopping.wait(EVERY_S):
                return

    def clean_once(self) -> None:
        """Do what is due, each in a transaction of its own."""
        now = self._clock()
        with self._database.write() as session:
            keep_fresh(session, self._director.signer, now)
        with self._database.write() as session:
            renewing.renew(session, self._director, now)
        with self._database.write() as session:
            propose_due(session, now)
        with self._database.write() as session:
            telemetry.sweep(session, now=now)
        for do in self._also:
            with self._database.write() as session:
                do(session, now)
