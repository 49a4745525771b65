"""Apply a patch in a throw-away child, seen from the supervisor."""

import math
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime.limits import (
    Ending,
    Limits,
    Outcome,
    python_child,
    run_limited,
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
    """What the child is told: three paths, and what the result must be."""

    old: str
    patch: str
    new: str
    digest: str
    length: int


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


def run(
    old: Path,
    patch: Path,
    new: Path,
    *,
    digest: str,
    length: int,
    cancel: threading.Event | None = None,
) -> Patched:
    """Write `new` from `old` and `patch`; its bytes are synced and have the signed digest.

    `Store.adopt(digest, length, new)` takes it from there. Nothing is left of `new` where
    this raises. Idempotent: an earlier `new` is overwritten.

    Args:
        old: A file of the store.
        patch: The complete patch; not trusted.
        new: Where to write, on the same file system as the store.
        digest: Signed SHA-256 of the result.
        length: Signed length of the result; no more is ever written.
        cancel: Ends the child early.

    Raises:
        PatchError: `E_PATCH…`: wrong base, damaged, makes something else, or too greedy.
        RetryableError: `E_NO_SPACE`, `E_DISK`, `E_CANCELLED`, `E_SPAWN`.
    """
    spec = Spec(old=str(old), patch=str(patch), new=str(new), digest=digest, length=length)
    fsio.remove(new)
    outcome = run_limited(
        python_child(MODULE),
        stdin=msgspec.json.encode(spec),
        limits=limits_for(length),
        cancel=cancel,
    )
    try:
        _check(outcome)
    except (PatchError, RetryableError):
        fsio.remove(new)
        raise
    fsio.fsync_dir(new.parent)
    return Patched(outcome.wall_ms, outcome.memory_kib)


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
