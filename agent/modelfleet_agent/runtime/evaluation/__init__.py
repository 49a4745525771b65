"""A candidate that answers an evaluation set in a throw-away child, seen from outside."""

import math
import threading
from pathlib import Path

import msgspec

from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime.limits import (
    Ending,
    Limits,
    Outcome,
    python_child,
    run_limited,
)
from modelfleet_agent.store.record import Placed, PlacedFile

MODULE = "modelfleet_agent.runtime.evaluation"
NICE = 10
"""A reference device may serve as well: what it answers goes first."""

_CODES = {
    Ending.FAILED: "E_EVALUATION",
    Ending.MEMORY: "E_MEMORY",
    Ending.CPU: "E_TOO_LONG",
    Ending.WALL: "E_TOO_LONG",
    Ending.OUTPUT: "E_EVALUATION",
    Ending.CRASHED: "E_CRASH",
}


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is told.

    Attributes:
        placed: The candidate, with paths.
        samples: The evaluation set, an npz with one array per input.
        count: So many samples are answered.
        threads: Of the session.
        answers: Where the first output of all samples goes, an npy.
    """

    placed: Placed
    samples: PlacedFile
    count: int
    threads: int
    answers: str


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What came out.

    Attributes:
        code: `E_…` where it could not be run, else "".
        reason: Why not.
        samples: That were answered.
        batch: Samples in one run.
        latency_us: 50th, 90th and 99th percentile of one run, wall time.
        load_ms: From the file to a session.
        memory_kib: Peak resident memory of the child.
        energy_mj: Of the processor during the runs; None where it cannot be read.
        runtime: `onnxruntime <version>`.
        provider: The execution provider that computed.
    """

    code: str = ""
    reason: str = ""
    samples: int = 0
    batch: int = 1
    latency_us: tuple[int, int, int] = (0, 0, 0)
    load_ms: int = 0
    memory_kib: int = 0
    energy_mj: int | None = None
    runtime: str = ""
    provider: str = ""


def run(
    task: Task, *, memory_mb: int, wall_s: float, cancel: threading.Event | None = None
) -> Found:
    """Let the candidate answer in a limited child.

    Args:
        task: What to answer.
        memory_mb: Address space of the child, MiB.
        wall_s: Seconds that it may take.
        cancel: Ends the child early.

    Raises:
        RetryableError: `E_CANCELLED`, `E_SPAWN`.
    """
    most_mb = sum(file.length for file in task.placed.files) >> 20
    limits = Limits(
        wall_s=wall_s,
        cpu_s=math.ceil(wall_s) * task.threads,
        memory_mb=memory_mb,
        file_mb=64 + most_mb,
        nice=NICE,
    )
    outcome = run_limited(
        python_child(MODULE), stdin=msgspec.json.encode(task), limits=limits, cancel=cancel
    )
    if outcome.ending is Ending.CANCELLED:
        raise RetryableError("E_CANCELLED", "the evaluation was cancelled")
    return _judge(outcome, Path(task.answers))


def _judge(outcome: Outcome, answers: Path) -> Found:
    memory = outcome.memory_kib
    if not outcome.ok:
        code, reason = _CODES[outcome.ending], f"the evaluation {outcome.reason}"
        return Found(code=code, reason=reason, memory_kib=memory)
    try:
        found = msgspec.json.decode(outcome.stdout, type=Found)
    except msgspec.MsgspecError as error:
        reason = f"the evaluation says nothing: {error}"
        return Found(code="E_EVALUATION", reason=reason, memory_kib=memory)
    if not found.code and not answers.is_file():
        return Found(code="E_EVALUATION", reason="it left no answers", memory_kib=memory)
    return msgspec.structs.replace(found, memory_kib=memory)
