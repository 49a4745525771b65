"""The self-test of a release in a throw-away child, seen from the supervisor."""

import threading
from dataclasses import dataclass

from modelfleet_agent.store.record import Placed


@dataclass(frozen=True)
class SelfTest:
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
    code: str
    reason: str
    max_abs: float
    latency_ms: float
    memory_kib: int


def run(
    placed: Placed,
    *,
    expected_s: float = 2,
    max_latency_ms: float | None = None,
    cancel: threading.Event | None = None,
) -> SelfTest:
    """Load `placed` in a limited child and compare its answers with the golden ones.

    Args:
        placed: The release, with paths.
        expected_s: How long it should take; the wall limit is five times that, at least
            10 s.
        max_latency_ms: Slower medians fail the test.
        cancel: Ends the child early.

    Raises:
        RetryableError: `E_CANCELLED`; `E_MISSING`: a file is not there.
    """
    raise NotImplementedError
