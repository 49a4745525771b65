"""Make a file for one provider from a release, in a throw-away child."""

import math
import threading
from pathlib import Path

import msgspec

from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime.limits import Ending, Limits, python_child, run_limited
from modelfleet_agent.runtime.providers import PROVIDERS
from modelfleet_agent.store.record import Placed

MODULE = "modelfleet_agent.runtime.derive"
MIB = 1 << 20
BASE_MB, PER_MODEL = 256, 6  # the graph, its copy and what is written
CPU_S, GPU_S = 300.0, 3600.0  # an engine for TensorRT takes minutes


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is told.

    Attributes:
        placed: The release.
        provider: For which a file is made.
        output: Where.
    """

    placed: Placed
    provider: str
    output: str


def run(
    placed: Placed,
    provider: str,
    output: Path,
    *,
    cancel: threading.Event | None = None,
) -> None:
    """Make `output` from a release for a provider, under limits.

    Raises:
        RefusedError: `E_DERIVE`: it cannot be made here.
        RetryableError: `E_CANCELLED`, `E_SPAWN`.
    """
    task = Task(placed=placed, provider=provider, output=str(output))
    outcome = run_limited(
        python_child(MODULE),
        stdin=msgspec.json.encode(task),
        limits=limits_for(placed, provider),
        cancel=cancel,
    )
    if outcome.ending is Ending.CANCELLED:
        raise RetryableError("E_CANCELLED", "making the derived file was cancelled")
    if not outcome.ok or not output.is_file():
        raise RefusedError("E_DERIVE", f"no file for {provider}: {outcome.reason}")


def limits_for(placed: Placed, provider: str) -> Limits:
    """Return what making a file may use."""
    size = math.ceil(sum(entry.length for entry in placed.record.files) / MIB)
    if PROVIDERS[provider].gpu:
        return Limits(wall_s=GPU_S, file_mb=None, files=None)
    return Limits(
        wall_s=CPU_S,
        cpu_s=math.ceil(CPU_S),
        memory_mb=BASE_MB + PER_MODEL * size,
        file_mb=2 * size + 16,
    )
