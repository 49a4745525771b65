"""What runs by itself: fresh snapshot and timestamp, documents renewed in time."""

import logging
import threading
from collections.abc import Callable

from modelfleet_server.kit.db import Database
from modelfleet_server.trust import director as directing
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.online import OnlineSigner
from modelfleet_server.trust.publishing import keep_fresh

log = logging.getLogger(__name__)

BATCH = 200
EVERY_S = 60.0


class Keeper:
    """A thread that keeps what expires from expiring. Start and stop it once.

    Args:
        database: The server's.
        signer: Of snapshot and timestamp.
        director: Of assignments and deployments.
        clock: Returns Unix milliseconds.
        every_s: Seconds between two looks.
    """

    def __init__(
        self,
        database: Database,
        signer: OnlineSigner,
        director: Director,
        clock: Callable[[], int],
        every_s: float = EVERY_S,
    ) -> None:
        self._database = database
        self._signer = signer
        self._director = director
        self._clock = clock
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trust-keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch in hand and return."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> int:
        """Do what is due now; return how many documents were renewed.

        Renews in batches, one transaction each, so that others get their turn.
        """
        now = self._clock()
        with self._database.write() as session:
            keep_fresh(session, self._signer, now)
        renewed = 0
        while not self._stopping.is_set():
            with self._database.write() as session:
                batch = directing.renew(session, self._director, now, limit=BATCH)
            renewed += len(batch)
            if not batch:
                break
        return renewed

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:
                # a busy database must not end the thread that keeps the fleet from expiring
                log.exception("keeping the trust metadata fresh failed; trying again")
            self._stopping.wait(self._every_s)
