"""Trust metadata: fetched in a thread, when it is needed and not more often."""

import logging
import threading
from collections.abc import Callable, Collection
from dataclasses import replace

from modelfleet_agent.clock import Clock
from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.trust.door import TrustDoor
from modelfleet_agent.update.policy import METADATA, Metadata, Rng, metadata_due
from modelfleet_manifests.release import ReleaseRef

log = logging.getLogger(__name__)

Wants = Callable[[], Collection[ReleaseRef]]
"""Returns every release that is to be looked up."""


class Refresher:
    """Asks the door; at most one refresh at a time. Used by the supervisor's thread."""

    def __init__(
        self,
        door: TrustDoor,
        *,
        clock: Clock,
        rng: Rng,
        on_done: Callable[[AgentError | None], None],
    ) -> None:
        """Nothing is fetched yet.

        Args:
            door: To the metadata.
            clock: Unix ms.
            rng: For jitter.
            on_done: Called in the refresher's thread when one ends.
        """
        self._door = door
        self._clock = clock
        self._rng = rng
        self._on_done = on_done
        self._known = Metadata(refreshed=clock(), expires=_expires(door))
        self._wait_ms = 0
        self._needed = False
        self._errors = self._unmet = 0
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None

    def need(self, wants: Wants, *, anew: bool) -> None:
        """Say that something is not known; with `anew` it is another thing than before."""
        if anew:  # and it was heard, so there is a network
            self._errors = self._unmet = 0
            self._known = replace(self._known, failures=0)
        self._needed = True
        self.look(wants)

    def satisfied(self) -> None:
        """Say that nothing is missing."""
        self._needed = False
        self._unmet = 0
        self._known = replace(self._known, failures=self._errors)

    def look(self, wants: Wants) -> None:
        """Begin a refresh where one is due."""
        now = self._clock()
        due = metadata_due(self._known, needed=self._needed, wait_ms=self._wait_ms, now=now)
        if due and not self._busy:
            self._thread = threading.Thread(
                target=self._refresh, args=(list(wants()),), name="trust", daemon=True
            )
            self._thread.start()

    def recall(self, payload: bytes, on_done: Callable[[AgentError | None], None]) -> None:
        """Have a `trust/recalls` message judged; it may wait for a refresh to end.

        Args:
            payload: Of the message.
            on_done: Called in a thread with what is wrong with it, or None.
        """

        def apply() -> None:
            try:
                self._door.apply_recalls(payload)
            except AgentError as error:
                on_done(error)
            else:
                on_done(None)

        threading.Thread(target=apply, name="recalls", daemon=True).start()

    def finished(self, error: AgentError | None) -> None:
        """Take the end of a refresh, in the supervisor's thread."""
        self._errors = self._errors + 1 if error else 0
        # one that brought not what is needed counts, until `satisfied` says otherwise
        self._unmet = self._unmet + 1 if self._needed else 0
        now, failures = self._clock(), self._errors + self._unmet
        self._wait_ms = METADATA.wait_ms(max(failures, 1), self._rng)
        refreshed = self._known.refreshed if error else now
        self._known = Metadata(refreshed, _expires(self._door), failures, now)

    def close(self) -> None:
        """End what goes on."""
        self._cancel.set()
        if self._thread:
            self._thread.join(5)

    @property
    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _refresh(self, wants: list[ReleaseRef]) -> None:
        error: AgentError | None = None
        try:
            self._door.refresh(wants, self._cancel)
        except AgentError as why:
            error = why
            log.warning("MF_METADATA %s", why)
        except Exception as why:
            log.exception("MF_DEFECT metadata")
            error = RetryableError("E_INTERNAL", f"{type(why).__name__}: {why}")
        self._thread = None
        self._on_done(error)


def _expires(door: TrustDoor) -> int:
    """Return when the first of the roles expires that are renewed online."""
    expires = door.load().expires
    short = [expires[role] for role in ("timestamp", "snapshot") if role in expires]
    return min(short, default=0)
