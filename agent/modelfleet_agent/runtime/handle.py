"""A slot inside an application: for those that cannot afford a socket.

The application loads the release itself, from the device's store, and follows what the
agent keeps: the slot's link moves only when a release passed its trial, so what runs here
was verified, tested and tried. Several versions never mix within one call. The process
must run as the agent's user, whose directory it reads, and needs its ONNX Runtime.

A file that the agent derived from the release (a TensorRT engine, a graph optimised for
this processor) is loaded in its place where it was made by this very ONNX Runtime, for this
very device. What runs here is not counted by the agent's telemetry.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import onnxruntime

from modelfleet_agent import facts
from modelfleet_agent.errors import AgentError, RefusedError, RetryableError, UsageError
from modelfleet_agent.runtime import slot as resident
from modelfleet_agent.runtime.counters import Counters
from modelfleet_agent.runtime.derivation import wanted_derivation
from modelfleet_agent.runtime.reaper import Reaper
from modelfleet_agent.runtime.session import Session
from modelfleet_agent.runtime.tensors import Array, TensorSpec
from modelfleet_agent.store import Placed, Record, Slots, Store
from modelfleet_agent.store.derived import DerivedFiles

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
        self._derived = DerivedFiles(self._store)
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
    def loaded(self) -> str | None:
        """Digest of the graph that is loaded: the release's, or that of a derived file."""
        held = self._held
        if held is None:
            return None
        made = held.session.derived
        return made.digest if made else held.session.record.files[0].digest

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
        plain = self._store.place(record)
        placed = self._place(plain)
        if placed.derived:
            try:
                return self._open(placed)
            except (
                RefusedError
            ) as error:  # the agent makes another; what was signed answers
                log.warning("MF_SLOT slot=%s %s", self.name, error)
        return self._open(plain)

    def _place(self, plain: Placed) -> Placed:
        """Add the derived file that this process may load, where the agent made one."""
        device = facts.recall(self._store.root)
        runtime = f"onnxruntime {onnxruntime.__version__}"
        if device is None or device.runtime != runtime:
            return plain
        wanted = wanted_derivation(plain.record, device, prepares=True)
        found = self._derived.find(plain.record, wanted) if wanted else None
        return msgspec.structs.replace(plain, derived=found)

    def _open(self, placed: Placed) -> resident.Resident:
        session = Session(placed, threads=self._threads)
        try:
            session.warm()
        except AgentError:
            session.close()
            raise
        return resident.Resident(session, Counters(self.name, placed.record))

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
