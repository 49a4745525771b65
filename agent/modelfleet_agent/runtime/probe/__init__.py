"""Ask a child what the ONNX Runtime on this device can do."""

import msgspec

from modelfleet_agent.facts import RuntimeFacts
from modelfleet_agent.runtime.limits import Limits, Outcome, python_child, run_limited

MODULE = "modelfleet_agent.runtime.probe"
# Accelerators reserve huge address spaces and many files: only time is limited here.
LIMITS = Limits(wall_s=60, file_mb=None, files=None, nice=0, oom_score=500)


def run() -> RuntimeFacts:
    """Return what loads here; nothing where ONNX Runtime does not even import.

    Raises:
        RetryableError: `E_SPAWN`.
    """
    return _read(run_limited(python_child(MODULE), limits=LIMITS))


def _read(outcome: Outcome) -> RuntimeFacts:
    if not outcome.ok:
        return RuntimeFacts()
    return msgspec.json.decode(outcome.stdout, type=RuntimeFacts)
