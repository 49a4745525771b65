"""Starts limited children and waits for their answers, never longer than allowed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from modelfleet_server.builds.errors import ChildError, ModelRunError
from modelfleet_server.builds.launcher import (
    HERE,
    HINT,
    Ask,
    Machine,
    StoppedError,
    run_child,
)
from modelfleet_server.builds.messages import (
    AnswerJob,
    BuildJob,
    Built,
    BuiltPatch,
    GradeJob,
    InspectJob,
    Limits,
    ModelFacts,
    Pair,
    PatchJob,
    PlainJob,
    Scores,
    Verdict,
    VerifyJob,
    WeighJob,
)

__all__ = [
    "Ask",
    "Machine",
    "StoppedError",
    "answer",
    "build",
    "check",
    "grade",
    "inspect",
    "limits_for",
    "make_patches",
    "run_child",
    "verify",
    "weigh",
]

INSPECT_LIMITS = Limits(cpu_s=60, wall_s=120.0)
DOOR_S, PLAIN_S = 25.0, 30.0
"""How long each half of `check` may take: reading the file, and running it."""
SIMPLIFY = (
    "A model that cannot be loaded and run in half a minute, in a few times its own size, "
    "is not let in: simplify it."
)
_MIB = 1 << 20


def inspect(
    model: Path, *, packed: Path | None = None, limits: Limits = INSPECT_LIMITS
) -> ModelFacts:
    """Return the facts of a model file, found out in a limited child.

    Args:
        model: The file; with external data beside it only where `packed` is given.
        packed: Where to write one file with external data in it. Nothing is written there
            if the model has none.
        limits: What the child may use.

    Raises:
        ModelError: It is refused; says why and what to do.
        ChildError: The child went over a limit.
    """
    job = InspectJob(
        model=str(model.absolute()),
        packed=None if packed is None else str(packed.absolute()),
    )
    with tempfile.TemporaryDirectory(prefix="modelfleet-inspect-") as folder:
        answer = run_child(job, limits, Path(folder), Ask())
    if answer.facts is None:
        raise ChildError("the check of the model ended without an answer", HINT)
    return answer.facts


def check(model: Path, *, packed: Path | None = None) -> ModelFacts:
    """Return the facts of a model that may be published: the whole door, and a first run.

    Ends within a minute whatever the file, in memory of a few times the model's size.

    Args:
        model: The file, with external data beside it.
        packed: Where to write one file with external data in it, as `inspect` does.

    Raises:
        ModelError: It is refused; says why and what to do.
    """
    try:
        size = model.stat().st_size if model.is_file() else 0
        with tempfile.TemporaryDirectory(prefix="modelfleet-check-") as folder:
            target = packed or Path(folder) / "packed.onnx"
            facts = inspect(model, packed=target, limits=_check_limits(size, DOOR_S))
            size += sum((model.parent / name).stat().st_size for name in facts.external)
            job = PlainJob(model=str(model.absolute()), schema=facts.schema)
            answer = run_child(job, _check_limits(size, PLAIN_S), Path(folder), Ask())
    except ChildError as error:
        raise ModelRunError(f"{model.name} is refused: {error.what}", SIMPLIFY) from None
    if not answer.ran:
        raise ModelRunError(f"{model.name} ended its check without an answer", SIMPLIFY)
    return facts


def _check_limits(length: int, wall_s: float) -> Limits:
    megabytes = length // _MIB + 1
    return Limits(
        memory_mb=1024 + 4 * megabytes,
        cpu_s=int(wall_s),
        wall_s=wall_s,
        file_mb=64 + 4 * megabytes,
    )


def build(job: BuildJob, limits: Limits, folder: Path, ask: Ask) -> Built:
    """Build a variant into `folder`.

    Raises:
        InvalidError: The master, a data set or the recipe is at fault.
        ChildError: The child crashed or went over a limit.
        StoppedError: `ask.stop` was set.
    """
    answer = run_child(job, limits, folder, ask)
    if answer.built is None:
        raise ChildError("the build ended without an answer", HINT)
    return answer.built


def verify(job: VerifyJob, limits: Limits) -> Verdict:
    """Build a variant again in a limited child, and say whether it is the same.

    Raises:
        InvalidError: Master, calibration set or recipe are at fault.
        ChildError: The child went over a limit.
    """
    with tempfile.TemporaryDirectory(prefix="modelfleet-verify-") as folder:
        answer = run_child(job, limits, Path(folder), Ask())
    if answer.verdict is None:
        raise ChildError("the verification ended without an answer", HINT)
    return answer.verdict


def answer(job: AnswerJob, limits: Limits, ask: Ask, machine: Machine = HERE) -> int:
    """Let a model answer an evaluation set in a limited child; return how many samples.

    Args:
        job: What to answer.
        limits: What the child may use.
        ask: When to stop.
        machine: What computes it.

    Raises:
        InvalidError: The model or the set is at fault.
        ChildError: The child went over a limit.
        StoppedError: `ask.stop` was set.
    """
    with tempfile.TemporaryDirectory(prefix="modelfleet-answer-") as folder:
        found = run_child(job, limits, Path(folder), ask, machine=machine)
    if found.answered is None:
        raise ChildError("the evaluation ended without an answer", HINT)
    return found.answered


def grade(job: GradeJob, limits: Limits, ask: Ask) -> Scores:
    """Compare answers with those of the master, in a limited child.

    Raises:
        InvalidError: The master, the set or the answers are at fault.
        ChildError: The child went over a limit.
        StoppedError: `ask.stop` was set.
    """
    with tempfile.TemporaryDirectory(prefix="modelfleet-grade-") as folder:
        found = run_child(job, limits, Path(folder), ask)
    if found.scores is None:
        raise ChildError("the scoring ended without an answer", HINT)
    return found.scores


def weigh(pairs: Sequence[Pair], limits: Limits, ask: Ask) -> list[int]:
    """Return about how many bytes the patch of each pair would have.

    Raises:
        ChildError: The child crashed or went over a limit.
        StoppedError: `ask.stop` was set.
    """
    with tempfile.TemporaryDirectory(prefix="modelfleet-weigh-") as folder:
        answer = run_child(WeighJob(pairs=list(pairs)), limits, Path(folder), ask)
    if answer.weights is None or len(answer.weights) != len(pairs):
        raise ChildError("the estimate ended without an answer", HINT)
    return answer.weights


def make_patches(
    pairs: Sequence[Pair], limits: Limits, folder: Path, ask: Ask
) -> list[BuiltPatch]:
    """Write the patch of each pair into `folder`; one that cannot be made says why.

    Raises:
        ChildError: The child crashed or went over a limit.
        StoppedError: `ask.stop` was set.
    """
    answer = run_child(PatchJob(pairs=list(pairs)), limits, folder, ask)
    if answer.patches is None or len(answer.patches) != len(pairs):
        raise ChildError("making deltas ended without an answer", HINT)
    return answer.patches


def limits_for(length: int, *, wall_s: float = 900.0) -> Limits:
    """Return what a build of a master of `length` bytes may use."""
    megabytes = length // _MIB + 1
    return Limits(
        memory_mb=2048 + 12 * megabytes,
        cpu_s=int(wall_s),
        wall_s=wall_s,
        file_mb=64 + 4 * megabytes,
    )
