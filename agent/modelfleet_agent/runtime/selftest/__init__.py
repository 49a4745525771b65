"""The self-test of a release in a throw-away child, seen from the supervisor."""

import math
import threading

import msgspec

from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime.limits import (
    Child,
    Ending,
    Limits,
    Outcome,
    python_child,
)
from modelfleet_agent.runtime.providers import uses_gpu
from modelfleet_agent.store.record import Placed, Record

MODULE = "modelfleet_agent.runtime.selftest"
LEAST_S = 10.0
SLACK = 5
BASE_MB = 256
PER_MODEL = 3
MIB = 1 << 20

_CODES = {
    Ending.FAILED: "E_SELF_TEST",
    Ending.MEMORY: "E_MEMORY",
    Ending.CPU: "E_TOO_LONG",
    Ending.WALL: "E_TOO_LONG",
    Ending.OUTPUT: "E_SELF_TEST",
    Ending.CRASHED: "E_CRASH",
}
_RETRYABLE = frozenset({"E_MISSING", "E_CANCELLED"})


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is told: the release, and the slowest median that passes."""

    placed: Placed
    max_latency_ms: float | None = None


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of a self-test.

    Attributes:
        ok: The release may run here.
        code: `E_…` where it may not, else empty.
        reason: Why not, in words.
        max_abs: Largest absolute difference to a golden output.
        latency_ms: Median latency of one run on the golden inputs.
        memory_kib: Peak resident memory of the child.
    """

    ok: bool
    code: str = ""
    reason: str = ""
    max_abs: float = 0.0
    latency_ms: float = 0.0
    memory_kib: int = 0


def run(
    placed: Placed,
    *,
    expected_s: float = 2,
    wall_s: float | None = None,
    max_latency_ms: float | None = None,
    cancel: threading.Event | None = None,
    child: Child | None = None,
) -> SelfTest:
    """Load `placed` in a limited child and compare its answers with the golden ones.

    Args:
        placed: The release, with paths.
        expected_s: How long it should take; the wall limit is five times that, at least
            10 s.
        wall_s: The wall limit, where the release demands one.
        max_latency_ms: Slower medians fail the test.
        cancel: Ends the child early.
        child: From `begin`; not used where its limits are not those of `placed`.

    Raises:
        RetryableError: `E_CANCELLED`; `E_MISSING`: a file is not there; `E_SPAWN`.
    """
    wall_s = wall_s or max(LEAST_S, SLACK * expected_s)
    spec = Spec(placed=placed, max_latency_ms=max_latency_ms)
    derived = placed.derived.length if placed.derived else 0
    limits = limits_for(placed.record, wall_s, derived=derived)
    if child and not (child.waits and child.limits == limits):
        child.abandon()
        child = None
    child = child or Child(python_child(MODULE), limits)
    test = _judge(child.finish(msgspec.json.encode(spec), cancel=cancel))
    if test.code in _RETRYABLE:
        raise RetryableError(test.code, test.reason, release=placed.record.release)
    return test


def begin(record: Record, *, wall_s: float) -> Child:
    """Start the child that is to test `record`, for the `run` that follows.

    Raises:
        RetryableError: `E_SPAWN`.
    """
    return Child(python_child(MODULE), limits_for(record, wall_s))


def limits_for(record: Record, wall_s: float, *, derived: int = 0) -> Limits:
    """Return what a self-test may use: 256 MiB and three times the bytes of its files.

    Args:
        record: What is tested.
        wall_s: Seconds that it may take.
        derived: Bytes that this device made from the files.
    """
    size = sum(entry.length for entry in record.wanted) + derived
    return Limits(
        wall_s=wall_s,
        cpu_s=math.ceil(wall_s),
        # accelerators reserve address space without end; the control group limits them
        memory_mb=None
        if uses_gpu(record.providers)
        else BASE_MB + PER_MODEL * math.ceil(size / MIB),
    )


def _judge(outcome: Outcome) -> SelfTest:
    if outcome.ending is Ending.CANCELLED:
        return SelfTest(ok=False, code="E_CANCELLED", reason="the self-test was cancelled")
    if outcome.ok:
        try:
            test = msgspec.json.decode(outcome.stdout, type=SelfTest)
            return msgspec.structs.replace(test, memory_kib=outcome.memory_kib)
        except msgspec.MsgspecError as error:
            return SelfTest(
                ok=False, code="E_SELF_TEST", reason=f"it says nothing: {error}"
            )
    return SelfTest(
        ok=False,
        code=_CODES[outcome.ending],
        reason=f"the self-test {outcome.reason}",
        memory_kib=outcome.memory_kib,
    )
