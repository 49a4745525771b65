"""Scores a variant as another processor computes it: QEMU's user mode, numbers only.

One and the same int8 file kept its accuracy on a processor with VNNI and lost twelve points
on one without, where products of bytes saturate. The machine that builds has VNNI or not;
devices have what they have. Times under emulation mean nothing and are not taken.
"""

import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from modelfleet_manifests.profiles.definition import Emulated, Profile
from modelfleet_manifests.release import Schema
from modelfleet_server.builds import children
from modelfleet_server.builds.choosing import Candidate, out_of_budget
from modelfleet_server.builds.errors import ChildError, ParityError
from modelfleet_server.builds.launcher import Machine
from modelfleet_server.builds.messages import (
    AnswerJob,
    BuildJob,
    Built,
    GradeJob,
    Limits,
    Scores,
)
from modelfleet_server.jobs.domain import Progress

SAMPLES, LEAST = 256, 72
"""So many of the evaluation set at most and at least: emulation is up to a hundred times
as slow. Of 72 one may be answered otherwise within 8 % of 95 % confidence; of 40 none may.
"""
LIMITS = Limits(memory_mb=None, cpu_s=300, wall_s=600.0)
"""QEMU reserves all addresses there are: the native build before bounds the memory."""
NATIVE = Limits(memory_mb=8192, cpu_s=300, wall_s=600.0)
FOREIGN = "modelfleet-python-{arch}"
"""What starts Python of another architecture."""


class Proof(NamedTuple):
    """What was found out on emulated processors.

    Attributes:
        reason: Why the variant must not ship, "" if it may.
        accuracy: By processor.
        unproven: Processors that cannot be emulated here, and why.
        drop: How much less accurate than the master, by processor.
    """

    reason: str
    accuracy: dict[str, float]
    unproven: list[str]
    drop: dict[str, float]


def find_machine(wanted: Emulated) -> Machine | None:
    """Return what runs Python on an emulated processor, None where it is not installed.

    For the architecture of this machine that is QEMU and this Python. Any other needs a
    Python and ONNX Runtime of its own: a program `modelfleet-python-ARCH` on the path, such
    as tools/arm64_root.sh makes, that understands QEMU's environment.
    """
    chosen = {"QEMU_CPU": wanted.cpu}
    if wanted.arch != platform.machine():
        found = shutil.which(FOREIGN.format(arch=wanted.arch))
        return Machine((found,), chosen, foreign=True) if found else None
    for name in (f"qemu-{wanted.arch}-static", f"qemu-{wanted.arch}"):
        found = shutil.which(name)
        if found:
            return Machine((found, sys.executable), chosen)
    return None


class Made(Protocol):
    """What a build made, wherever its files are."""

    @property
    def built(self) -> Built:
        """What was built."""


class _InFolder(NamedTuple):
    built: Built
    folder: Path


M = TypeVar("M", bound=Made)


def until_proven(
    job: BuildJob,
    build: Callable[[BuildJob], M],
    prove_made: Callable[[BuildJob, M], Proof],
) -> tuple[M, Proof]:
    """Build a variant that also keeps its budget on the processors its profile names.

    What does not is excluded, and the next best candidate is built, by what was measured of
    all of them the first time.

    Args:
        job: What to build.
        build: Builds; how many candidates are excluded tells one attempt from the others.
        prove_made: Scores what was built.

    Raises:
        InvalidError: Something is at fault, or no candidate is within its budget.
    """
    excluded, known = dict(job.excluded), list(job.known)
    while True:
        tried = msgspec.structs.replace(job, excluded=dict(excluded), known=known)
        made = build(tried)
        proof = prove_made(tried, made)
        if not proof.reason or job.override:
            return made, proof
        if made.built.recipe_name == job.profile.baseline.name:
            raise ParityError(proof.reason, "Let an approver override the gate.")
        excluded[made.built.recipe_name] = proof.reason
        known = with_proof(made.built, proof).front


def build_proven(
    job: BuildJob, limits: Limits, folder: Path, schema: Schema, ask: children.Ask
) -> tuple[Built, Path]:
    """Do `until_proven` below one folder, without a server around it.

    Args:
        job: What to build.
        limits: Of each build's child.
        folder: Scratch; each attempt has its own folder in it.
        schema: Of the master.
        ask: Progress and stop.

    Returns:
        What was built, and the folder with its files.

    Raises:
        InvalidError: As `until_proven`.
        StoppedError: `ask.stop` was set.
    """

    def build(tried: BuildJob) -> _InFolder:
        attempt = folder / str(len(tried.excluded))
        attempt.mkdir()
        return _InFolder(children.build(tried, limits, attempt, ask), attempt)

    def prove_made(tried: BuildJob, made: _InFolder) -> Proof:
        return prove(tried, made.built, made.folder / made.built.model.name, schema, ask)

    made, proof = until_proven(job, build, prove_made)
    return with_proof(made.built, proof), made.folder


def prove(
    job: BuildJob, built: Built, variant: Path, schema: Schema, ask: children.Ask
) -> Proof:
    """Score `variant` on the emulated processors of its profile.

    Only variants of whole numbers are scored: full precision does not saturate.

    Raises:
        InvalidError: It fails there.
        StoppedError: `ask.stop` was set.
    """
    accuracy: dict[str, float] = {}
    drop: dict[str, float] = {}
    unproven: list[str] = []
    if not built.precision.startswith("int"):
        return Proof("", accuracy, unproven, drop)
    for wanted in job.profile.prove.emulated:
        machine = find_machine(wanted)
        if machine is None:
            unproven.append(f"{wanted.cpu}: {_missing(wanted)} is not installed here")
            continue
        ask.on_progress(Progress(f"answering on an emulated {wanted.cpu}", 0, 1))
        try:
            scores = _score(variant, job, schema, machine, ask)
        except ChildError as error:
            # too slow to emulate, or QEMU itself: the variant has done nothing wrong
            unproven.append(f"{wanted.cpu}: {error.what}")
            continue
        accuracy[wanted.cpu] = scores.accuracy
        drop[wanted.cpu] = scores.master_accuracy - scores.accuracy
        reason = judge(built.recipe_name, scores, job.profile)
        if reason:
            why = f"on an emulated {wanted.cpu}, {reason}"
            return Proof(why, accuracy, unproven, drop)
    return Proof("", accuracy, unproven, drop)


def judge(name: str, scores: Scores, profile: Profile) -> str:
    """Return why a variant is out of its budget, "" if it is within.

    Args:
        name: Of the recipe.
        scores: Of the variant as emulated, beside the master as this machine computes.
        profile: Whose budget counts.
    """
    one = Candidate(
        name=name,
        precision="",
        accuracy=scores.accuracy,
        disagreements=scores.disagreements,
        samples=scores.samples,
    )
    return out_of_budget(one, scores.master_accuracy, profile.objective)


def _missing(wanted: Emulated) -> str:
    if wanted.arch != platform.machine():
        return FOREIGN.format(arch=wanted.arch)
    return f"qemu-{wanted.arch}"


def _score(
    variant: Path, job: BuildJob, schema: Schema, machine: Machine, ask: children.Ask
) -> Scores:
    """Let the emulated processor answer, and this one judge."""
    answers = variant.with_suffix(".answers.npy")
    asked = AnswerJob(
        model=str(variant),
        evaluation=job.evaluation,
        schema=schema,
        samples=SAMPLES,
        least=LEAST,
        answers=str(answers),
    )
    children.answer(asked, LIMITS, ask, machine)
    wanted = GradeJob(
        master=job.master, evaluation=job.evaluation, schema=schema, answers=str(answers)
    )
    try:
        return children.grade(wanted, NATIVE, ask)
    finally:
        answers.unlink()


def with_proof(built: Built, proof: Proof) -> Built:
    """Return what was built with what was proven of it."""
    front = [
        msgspec.structs.replace(one, emulated=proof.accuracy, emulated_drop=proof.drop)
        if one.chosen
        else one
        for one in built.front
    ]
    return msgspec.structs.replace(built, front=front, unproven=proof.unproven)
