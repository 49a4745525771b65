"""Apply a patch in a throw-away child, seen from the supervisor."""

import math
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime.limits import (
    Child,
    Ending,
    Limits,
    Outcome,
    python_child,
)

MODULE = "modelfleet_agent.runtime.patch"
MIB = 1 << 20
BASE_MB = 256
PER_MODEL = 3
LEAST_S = 30.0
SLOWEST = 1 * MIB  # bytes of output per second


class PatchError(RefusedError):
    """This patch is of no use, the release may be fine: fetch the full file instead."""


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is told: three paths, and what the result must be.

    A patch that `grows` is still being written: each further line of standard input says
    how many bytes of it are there by now, and its end that there are no more.
    """

    old: str
    patch: str
    new: str
    digest: str
    length: int
    grows: bool = False


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the child says: the code of what went wrong, or an empty one."""

    code: str = ""
    what: str = ""
    retryable: bool = False


@dataclass(frozen=True)
class Patched:
    """What applying a patch cost."""

    wall_ms: int
    memory_kib: int


class Patching:
    """One patch that is being applied, by a child of the thread that made this."""

    def __init__(self, spec: Spec) -> None:
        """Begin to write `spec.new`; an earlier one is overwritten.

        Raises:
            RetryableError: `E_SPAWN`, or the disk is in the way.
        """
        self.spec = spec
        self._new = Path(spec.new)
        self._have = 0
        fsio.remove(self._new)
        self._child = Child(python_child(MODULE), limits_for(spec.length))
        self._child.tell(msgspec.json.encode(spec) + b"\n")

    def grown(self, have: int) -> None:
        """Say that the first `have` bytes of a patch that grows are written."""
        self._have = have
        self._child.tell(b"%d\n" % have)

    def finish(self, *, cancel: threading.Event | None = None) -> Patched:
        """Wait for the result; a patch that grows is complete. Raises as `run`."""
        last = b"%d\n" % self._have if self.spec.grows else b""
        outcome = self._child.finish(last, cancel=cancel)
        try:
            _check(outcome)
        except (PatchError, RetryableError):
            fsio.remove(self._new)
            raise
        fsio.fsync_dir(self._new.parent)
        return Patched(outcome.wall_ms, outcome.memory_kib)

    def abandon(self) -> None:
        """Kill the child and leave nothing of the result."""
        self._child.abandon()
        fsio.remove(self._new)


def run(spec: Spec, *, cancel: threading.Event | None = None) -> Patched:
    """Write `spec.new`; its bytes are synced and have the signed digest.

    `Store.adopt(digest, length, new)` takes it from there. Nothing is left of it where this
    raises. Idempotent.

    Args:
        spec: A file of the store, a complete patch that is not trusted, where to write, on
            the same file system as the store, and what was signed of the result: no more
            than its length is ever written.
        cancel: Ends the child early.

    Raises:
        PatchError: `E_PATCH…`: wrong base, damaged, makes something else, or too greedy.
        RetryableError: `E_NO_SPACE`, `E_DISK`, `E_CANCELLED`, `E_SPAWN`.
    """
    return Patching(spec).finish(cancel=cancel)


def most_memory(length: int) -> int:
    """Return the bytes of memory that making a file of `length` bytes may take."""
    return (BASE_MB + PER_MODEL * math.ceil(length / MIB)) * MIB


def limits_for(length: int) -> Limits:
    """Return what making a file of `length` bytes may use."""
    wall_s = max(LEAST_S, length / SLOWEST)
    return Limits(
        wall_s=wall_s,
        cpu_s=math.ceil(wall_s),
        memory_mb=most_memory(length) // MIB,
        file_mb=math.ceil(length / MIB) + 1,
    )


def _check(outcome: Outcome) -> None:
    if outcome.ending is Ending.CANCELLED:
        raise RetryableError("E_CANCELLED", "patching was cancelled")
    if not outcome.ok:
        raise PatchError("E_PATCH", f"applying the patch failed: it {outcome.reason}")
    try:
        verdict = msgspec.json.decode(outcome.stdout, type=Verdict)
    except msgspec.MsgspecError as error:
        raise PatchError("E_PATCH", f"the patching child says nothing: {error}") from error
    if verdict.code:
        kind = RetryableError if verdict.retryable else PatchError
        raise kind(verdict.code, verdict.what)
