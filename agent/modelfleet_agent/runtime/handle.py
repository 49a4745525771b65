"""A slot inside an application: for those that cannot afford a socket.

The application loads the release itself, from the device's store, and follows what the
agent keeps: the slot's link moves only when a release passed its trial, so what runs here
was verified, tested and tried. Several versions never mix within one call. The process
must run as the agent's user, whose directory it reads, and needs its ONNX Runtime.

What runs here is not counted by the agent's telemetry.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from modelfleet_agent.errors import AgentError, RetryableError, UsageError
from modelfleet_agent.runtime import slot as resident
from modelfleet_agent.runtime.counters import Counters
from modelfleet_agent.runtime.reaper import Reaper
from modelfleet_agent.runtime.session import Session
from modelfleet_agent.runtime.tensors import Array, TensorSpec
from modelfleet_agent.store import Record, Slots, Store

log = logging.getLogger(__name__)

DIRECTORY = "/var/lib/modelfleet-agent"
FOLLOW_S = 0.5


@dataclass(frozen=True)
class Answer:
    """Outputs by name, and who gave them.

    Attributes:
        outputs: Arrays by output name.
        release: Release id.
        version: Its version.
        digest: Digest of its files.
    """

    outputs: Mapping[str, Array]
    release: str
    version: str
    digest: str


class Slot:
    """One slot, followed by a thread. `run` may be called from several threads at once.

    A release that does not load here is left alone, and the one before goes on answering;
    `trouble` says why.
    """

    def __init__(
        self,
        name: str,
        directory: Path | str | None = None,
        *,
        threads: int = 1,
        follow_s: float = FOLLOW_S,
        on_change: Callable[[str | None], None] | None = None,
    ) -> None:
        """Load what the slot runs, if anything.

        Args:
            name: Of the slot.
            directory: The agent's; MODELFLEET_AGENT_DIR or /var/lib/modelfleet-agent.
            threads: That one run may use.
            follow_s: How often the slot's link is looked at, in seconds.
            on_change: Told the version that answers from now on, None where none does.

        Raises:
            UsageError: `E_NO_AGENT`: there is no agent's directory, or it is not readable.
        """
        root = Path(directory or os.environ.get("MODELFLEET_AGENT_DIR", DIRECTORY))
        if not os.access(root / "slots", os.R_OK | os.X_OK):
            raise UsageError(
                "E_NO_AGENT",
                f"{root} is no agent's directory, or not readable for this user",
                hint="name the agent's --dir and run as its user",
            )
        self.name = name
        self.trouble: AgentError | None = None
        self._store = Store(root)
        self._links = Slots(self._store)
        self._threads = threads
        self._follow_s = follow_s
        self._on_change = on_change
        self._reaper = Reaper()
        self._held: resident.Resident | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._look()
        self._thread = threading.Thread(
            target=self._follow, name=f"slot-{name}", daemon=True
        )
        self._thread.start()

    @property
    def version(self) -> str | None:
        """What answers now; None where nothing does."""
        held = self._held
        return held.session.record.version if held else None

    @property
    def inputs(self) -> list[TensorSpec]:
        """What `run` takes.

        Raises:
            RetryableError: `E_NOT_LOADED`.
        """
        with self._lease() as held:
            return list(held.session.inputs)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] = ()) -> Answer:
        """Run the model once on arrays of the datatypes and shapes that it takes.

        Args:
            feeds: All inputs by name.
            outputs: Names of what is wanted; all where empty.

        Raises:
            RetryableError: `E_NOT_LOADED`: the slot runs nothing.
            Exception: Whatever ONNX Runtime raises.
        """
        with self._lease() as held:
            session = held.session
            names = list(outputs) or [spec.name for spec in session.outputs]
            arrays = session.run(feeds, names)
            record = session.record
        found = dict(zip(names, arrays, strict=True))
        return Answer(found, record.release, record.version, record.digest)

    def close(self) -> None:
        """End the thread and let the session go."""
        self._closing.set()
        self._thread.join()
        self._swap(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _lease(self) -> "_Lease":
        with self._lock:
            if self._held is None:
                raise RetryableError("E_NOT_LOADED", f"slot {self.name} runs nothing")
            self._held.lease()
            return _Lease(self._held)

    def _follow(self) -> None:
        while not self._closing.wait(self._follow_s):
            self._look()

    def _look(self) -> None:
        """Load what the link names where that is something else than what answers."""
        try:
            record = self._links.current(self.name)
            held = self._held
            if record is None:
                self._swap(None)
            elif held is None or held.key != record.key:
                self._swap(self._load(record))
            self.trouble = None
        except AgentError as error:
            if self.trouble is None or self.trouble.what != error.what:
                log.warning("MF_SLOT slot=%s %s", self.name, error)
            self.trouble = error

    def _load(self, record: Record) -> resident.Resident:
        session = Session(self._store.place(record), threads=self._threads)
        try:
            session.warm()
        except AgentError:
            session.close()
            raise
        return resident.Resident(session, Counters(self.name, record))

    def _swap(self, new: resident.Resident | None) -> None:
        with self._lock:
            old, self._held = self._held, new
        if old:
            self._reaper.retire(old)
        if old is not new and self._on_change:
            self._on_change(self.version)


class _Lease:
    """Keeps a session alive while it runs."""

    def __init__(self, held: resident.Resident) -> None:
        self._held = held

    def __enter__(self) -> resident.Resident:
        return self._held

    def __exit__(self, *_: object) -> None:
        self._held.give_back()
