"""One piece of work on a slot: what the journal holds, and the tools that effects use."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from modelfleet_agent.clock import Clock
from modelfleet_agent.errors import AgentError, RetryableError
from modelfleet_agent.link.fetch import Fetcher
from modelfleet_agent.link.permit import Permit
from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.runtime.memory import available_bytes
from modelfleet_agent.settings.link import LinkSettings, SwitchSettings
from modelfleet_agent.store import FileEntry, Record, Slots, Store
from modelfleet_agent.update.ahead import Ahead
from modelfleet_agent.update.deriving import Deriver
from modelfleet_agent.update.goal import Goal
from modelfleet_agent.update.phases import Phase
from modelfleet_agent.update.policy import Fallback, Rng
from modelfleet_agent.update.state import StateFile


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """A delta that was fetched: from the file `base` by `blob` to `target`.

    Attributes:
        target: Digest of the result, signed.
        length: Its bytes, signed.
        base: Digest of a file in the store, or `EMPTY`: then the target is packed in it.
        blob: Digest of the patch, in `incoming`.
        size: Its bytes.
        method: Name of the method.
        memory: Bytes that the server says applying it takes.
    """

    target: str
    length: int
    base: str
    blob: str
    size: int
    method: str
    memory: int

    @property
    def file(self) -> FileEntry:
        """The result, as the store knows it."""
        return FileEntry(name=self.target, digest=self.target, length=self.length)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal of a slot holds: only ever add fields.

    Attributes:
        phase: What goes on.
        goal: What the slot is to become; in `idle` the one that failed or was cancelled.
        tries: How many starts of the agent found this phase in the journal.
        full: A delta was of no use: the whole file follows, where that is allowed.
        patches: Deltas to apply.
        bytes: Fetched for this goal so far.
        method: How: `none`, `full`, `packed` or `delta`.
        memory_kib: What its self-test took; 0 where none ran.
        drains: It does not fit beside what runs: that is unloaded first.
        bad: Blobs of patches that were of no use, not to be tried again.
        fell_back: Why a delta was of no use, in words.
    """

    phase: Phase = Phase.IDLE
    goal: Goal | None = None
    tries: int = 0
    full: bool = False
    patches: tuple[Patch, ...] = ()
    bytes: int = 0
    method: str = "none"
    memory_kib: int = 0
    drains: bool = False
    bad: tuple[str, ...] = ()
    fell_back: str = ""

    def begin_again(self, goal: Goal) -> "Entry":
        """Return the entry of another try: the bytes count, and so does a bad delta."""
        return Entry(
            goal=goal,
            full=self.full,
            bytes=self.bytes,
            bad=self.bad,
            fell_back=self.fell_back,
        )


@dataclass(frozen=True)
class Tools:
    """What all slots share.

    Attributes:
        dir: The agent's directory.
        store: Files and records.
        slots: Links to what runs and what ran before.
        runtime: The runtime child.
        fetcher: Gives a fetcher for the calling thread.
        clock: Unix ms.
        rng: Numbers in [0, 1) for jitter.
        is_stopped: Says whether a release may not even go on running.
        notice: Told of what went wrong on the way, though the work goes on.
        reserve: Bytes that stay free on the file system.
        memory: Says how many bytes of memory may still be taken.
        fallback: Whether a whole file may follow a delta that is of no use.
        unmetered: Says whether the way to the server costs nothing by the byte.
        permit: When files may be downloaded.
        switch: When a new release may be put into service.
        deriver: Files that this device makes of releases; plain where not given.
    """

    dir: Path
    store: Store
    slots: Slots
    runtime: RuntimeClient
    fetcher: Callable[[], Fetcher]
    clock: Clock
    rng: Rng
    is_stopped: Callable[[Record], bool]
    notice: Callable[[str, AgentError], None]
    reserve: int = 0
    memory: Callable[[], int] = available_bytes
    fallback: Fallback = Fallback.ALWAYS
    unmetered: Callable[[], bool] = lambda: False
    permit: Permit = field(default_factory=lambda: Permit(LinkSettings(), Path()))
    switch: SwitchSettings = field(default_factory=SwitchSettings)
    given_deriver: Deriver | None = None

    @cached_property
    def deriver(self) -> Deriver:
        """Files that this device makes of releases."""
        return self.given_deriver or Deriver(self.store)


@dataclass
class Place:
    """What answers in a slot; read by other threads, written by the one that works.

    Attributes:
        serving: What answers requests now, in a trial the new release.
        settled: What is kept: what serves outside of trials.
    """

    serving: Record | None = None
    settled: Record | None = None

    def settle(self, record: Record | None) -> None:
        """What serves is kept."""
        self.serving = self.settled = record


@dataclass
class Work:
    """What an effect is given. It may set `entry` to have it journalled with the move.

    An effect returns when it is done, and otherwise raises; it is idempotent.
    """

    slot: str
    entry: Entry
    tools: Tools
    memory: StateFile
    place: Place
    ahead: Ahead
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def goal(self) -> Goal:
        """The goal; work that has one only."""
        assert self.entry.goal is not None  # noqa: S101 - start() set it
        return self.entry.goal

    @property
    def record(self) -> Record:
        """The release that is wanted."""
        return self.goal.record

    def note(self, **changes: object) -> None:
        """Change `entry`; journalled with the next move."""
        self.entry = msgspec.structs.replace(self.entry, **changes)

    def check_cancelled(self) -> None:
        """Return where the work is wanted still.

        Raises:
            RetryableError: `E_CANCELLED`.
        """
        if self.cancel.is_set():
            raise RetryableError("E_CANCELLED", "something else is wanted by now")


class FallBackError(RetryableError):
    """A delta is of no use; the files are to be fetched in full."""
