"""The door to the metadata: the supervisor asks here, a limited child does the work."""

import logging
import secrets
import threading
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime.limits import Ending, Limits, python_child, run_limited
from modelfleet_agent.trust.memory import LOST, believe, mend_floors
from modelfleet_agent.trust.messages import Answer, Recall, Refresh, Task, Wish
from modelfleet_agent.trust.state import TrustState, statement_path
from modelfleet_agent.trust.timing import Told, TrustedClock
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.names import release_path
from modelfleet_manifests.recalls import Recalls, Subject
from modelfleet_manifests.release import Release, ReleaseRef, read_release
from modelfleet_manifests.trust import SlotRule, TrustView

LIMITS = Limits(wall_s=120, cpu_s=60, memory_mb=512, file_mb=8, output_kb=64)
RECALLS = "E_RECALLS"

log = logging.getLogger(__name__)


class TrustDoor:
    """Verified metadata. `refresh` may run in a thread while others read."""

    def __init__(
        self,
        directory: Path,
        enrolment: Enrolment,
        *,
        clock: TrustedClock | None = None,
        proxy: str = "",
        count: Callable[[int], object] = lambda _count: None,
    ) -> None:
        """Read the state that the last refresh left; empty where there is none.

        Args:
            directory: Of the agent.
            enrolment: Fleet, server and token.
            clock: What the time is; a new one where none is given.
            proxy: HTTP proxy to the server, "" where there is none.
            count: Told the bytes of metadata that came.

        Raises:
            RetryableError: `E_RECORD`: the state is damaged.
        """
        self._directory = directory
        self._enrolment = enrolment
        self._clock = clock or TrustedClock()
        self._proxy = proxy
        self._count = count
        self._state = believe(directory, enrolment.fleet)
        self._releases: dict[str, Release] = {}
        self._last_recalls = ""
        self._lock = threading.Lock()  # one child at a time writes the state

    def load(self) -> TrustState:
        """Return the current state; costs nothing."""
        return self._state

    def mend(self) -> list[RetryableError]:
        """Write a damaged record of the floors again; return what is to be reported."""
        try:
            mended = mend_floors(self._directory, self._enrolment.fleet)
        except RetryableError as error:
            return [error]
        told = [f"{name} was damaged, and is written again" for name in mended]
        if LOST in self._state.behind:
            told.append("both records are lost: nothing is installed before a refresh")
        return [RetryableError("E_FLOORS", what) for what in told]

    def refresh(
        self, want: Collection[ReleaseRef], cancel: threading.Event | None = None
    ) -> TrustState:
        """Fetch and verify the metadata, and the statements of the releases in `want`.

        Releases that were listed before are looked up again. A release that is not listed,
        or whose statement is another, is no error: see `TrustState.problems`.

        Args:
            want: Every release that a held document, a slot or the store names.
            cancel: Ends it early.

        Raises:
            RetryableError: `E_CLOCK`: the metadata is new, but nobody told what time it is.
                Otherwise the state is what it was; `code` says why: `E_UNREACHABLE`,
                `E_CUT`, `E_HTTP`, `E_ROLLBACK`, `E_FREEZE`, `E_EXPIRED`, `E_THRESHOLD`,
                `E_MIX`, `E_ENDLESS`, `E_FORMAT`, `E_DELEGATION`, `E_METADATA`,
                `E_CANCELLED`, `E_LIMITS`, or one of the disk.
        """
        task = Refresh(
            directory=str(self._directory),
            fleet=self._enrolment.fleet,
            server=self._enrolment.server,
            token=self._enrolment.token,
            proxy=self._proxy,
            nonce=secrets.token_hex(16),
            want=[Wish(release_path(one.model, one.version), one.id) for one in want],
            ran=self._clock.take_run(),
        )
        with self._lock:
            answer = self._run(task, cancel)
            self._count(answer.moved)
            self._state = state = believe(self._directory, self._enrolment.fleet)
        self._clock.forget(state.timekeepers)
        if answer.time is not None:
            told = answer.time
            self._clock.confirm(Told(told.time, told.at, frozenset(state.timekeepers)))
        if answer.code:
            raise RetryableError(answer.code, f"metadata: {answer.what}")
        return self._state

    def apply_recalls(self, payload: bytes) -> TrustState:
        """Add what a `trust/recalls` message revokes and stops; it never takes away.

        Raises:
            RefusedError: `E_RECALLS`: not signed by the right keys, or not such a message;
                what is valid in it was added all the same.
            RetryableError: The disk is in the way, or no metadata was verified yet.
        """
        digest = sha256(payload)
        if not payload or digest == self._last_recalls:
            return self._state
        task = Recall(
            directory=str(self._directory), fleet=self._enrolment.fleet, payload=payload
        )
        with self._lock:
            answer = self._run(task, None)
            self._state = believe(self._directory, self._enrolment.fleet)
        if answer.code == RECALLS:
            raise RefusedError(answer.code, f"recalls: {answer.what}")
        if answer.code:
            raise RetryableError(answer.code, f"recalls: {answer.what}")
        self._last_recalls = digest
        return self._state

    def now(self) -> int:
        """Return the time as far as it is known, Unix ms."""
        return self._clock.now(self._state.clock)

    @property
    def is_confirmed(self) -> bool:
        """The time was told since the agent started."""
        return self._clock.confirmed

    def view(self, now: int) -> TrustView:
        """Return what the resolver takes; statements are read from disk once.

        Args:
            now: From `now`.
        """
        state = self._state
        wanted = set(state.listed.values())
        known = {one: self._releases.get(one) or self._read(one) for one in wanted}
        self._releases = {one: release for one, release in known.items() if release}
        return TrustView(
            releases=self._releases,
            slots={
                name: tuple(SlotRule(one.model, one.schema) for one in rules)
                for name, rules in state.slots.items()
            },
            recalls=self.recalls,
            floors=state.floors,
            seen=state.minimum,
            epoch=state.epoch,
            fresh=self._clock.confirmed and state.is_fresh(now),
        )

    @property
    def recalls(self) -> Recalls:
        """What is revoked and stopped."""
        return Recalls(frozenset(self._state.blocked), frozenset(self._state.stopped))

    def is_stopped(self, subject: Subject) -> bool:
        """Say whether something may not even go on running; costs little."""
        return self.recalls.stops(subject)

    def _run(self, task: Task, cancel: threading.Event | None) -> Answer:
        outcome = run_limited(
            python_child("modelfleet_agent.trust"),
            stdin=msgspec.json.encode(task),
            limits=LIMITS,
            cancel=cancel,
        )
        if outcome.ending is Ending.CANCELLED:
            return Answer(code="E_CANCELLED", what="cancelled")
        if not outcome.ok:
            log.error("MF_METADATA the child ended badly: %s", outcome.stderr)
            return Answer(code="E_LIMITS", what=f"the metadata child {outcome.reason}")
        if outcome.stderr:
            log.warning("MF_METADATA %s", outcome.stderr.strip())
        return msgspec.json.decode(outcome.stdout, type=Answer)

    def _read(self, release_id: str) -> Release | None:
        """Return a statement from disk; a damaged one counts as not listed."""
        try:
            data = (self._directory / statement_path(release_id)).read_bytes()
            if sha256(data) == release_id:
                return read_release(data)
        except (OSError, ManifestError) as error:
            log.warning(
                "MF_METADATA the statement %s cannot be read: %s", release_id, error
            )
        return None
