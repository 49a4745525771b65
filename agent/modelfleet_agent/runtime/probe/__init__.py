"""Ask a child what the ONNX Runtime on this device can do."""

from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.facts import RuntimeFacts, cpu_model
from modelfleet_agent.runtime.limits import Limits, Outcome, python_child, run_limited

MODULE = "modelfleet_agent.runtime.probe"
NAME = "probe.json"
# Accelerators reserve huge address spaces and many files: only time is limited here.
LIMITS = Limits(wall_s=60, file_mb=None, files=None, nice=0, oom_score=500)


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """How a processor sums bytes, found once for it and for a version of ONNX Runtime.

    Attributes:
        cpu: `facts.cpu_model`.
        runtime: `onnxruntime <version>`.
        saturates: What was found.
    """

    cpu: str = ""
    runtime: str = ""
    saturates: bool | None = None


def run(directory: Path | None = None, *, root: Path = Path("/")) -> RuntimeFacts:
    """Return what loads here; nothing where ONNX Runtime does not even import.

    Args:
        directory: Where what was found of the processor is kept; None keeps nothing.
        root: Where `proc` is.

    Raises:
        RetryableError: `E_SPAWN`.
    """
    cpu = cpu_model(root)
    known = _read_known(directory, cpu) if directory else Known()
    stdin = msgspec.json.encode(known)
    found = _read(run_limited(python_child(MODULE), stdin=stdin, limits=LIMITS))
    learnt = Known(cpu=cpu, runtime=found.runtime, saturates=found.saturates)
    if directory and found.saturates is not None and learnt != known:
        try:
            fsio.write_atomic(directory / NAME, msgspec.json.encode(learnt))
        except RetryableError:
            return found  # it is found again at the next boot
    return found


def _read_known(directory: Path, cpu: str) -> Known:
    try:
        known = msgspec.json.decode((directory / NAME).read_bytes(), type=Known)
    except (OSError, msgspec.MsgspecError):
        return Known()
    return known if known.cpu == cpu else Known()


def _read(outcome: Outcome) -> RuntimeFacts:
    if not outcome.ok:
        return RuntimeFacts()
    return msgspec.json.decode(outcome.stdout, type=RuntimeFacts)
