"""Scores a variant as another processor computes it: QEMU's user mode, numbers only.

One and the same int8 file kept its accuracy on a processor with VNNI and lost twelve points
on one without, where products of bytes saturate. The machine that builds has VNNI or not;
devices have what they have. Times under emulation mean nothing and are not taken.
"""

import platform
import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec

from modelfleet_manifests.profiles.definition import Emulated, Profile
from modelfleet_manifests.release import Schema
from modelfleet_server.builds import children
from modelfleet_server.builds.choosing import Candidate, out_of_budget
from modelfleet_server.builds.domain import BuildJob, Built, Limits, ScoreJob, Scores
from modelfleet_server.builds.errors import ChildError, ParityError

SAMPLES = 256
"""So many of the evaluation set: emulation is some ten times as slow."""
LIMITS = Limits(memory_mb=None, cpu_s=300, wall_s=600.0)
"""QEMU reserves all addresses there are: the native build before bounds the memory."""


class Proof(NamedTuple):
    """What was found out on emulated processors.

    Attributes:
        reason: Why the variant must not ship, "" if it may.
        accuracy: By processor.
        unproven: Processors that cannot be emulated here, and why.
    """

    reason: str
    accuracy: dict[str, float]
    unproven: list[str]


def find_emulator(machine: Emulated) -> Path | None:
    """Return the QEMU that emulates `machine` for the Python that runs here, if any."""
    if machine.arch != platform.machine():
        return None  # it would need a Python and ONNX Runtime of that architecture
    for name in (f"qemu-{machine.arch}-static", f"qemu-{machine.arch}"):
        found = shutil.which(name)
        if found:
            return Path(found)
    return None


def build_proven(
    job: BuildJob, limits: Limits, folder: Path, schema: Schema, ask: children.Ask
) -> tuple[Built, Path]:
    """Build a variant that also keeps its budget on the processors its profile names.

    What does not is excluded, and the next best candidate is built.

    Args:
        job: What to build.
        limits: Of each build's child.
        folder: Scratch; each attempt has its own folder in it.
        schema: Of the master.
        ask: Progress and stop.

    Returns:
        What was built, and the folder with its files.

    Raises:
        InvalidError: Something is at fault, or no candidate is within its budget.
        StoppedError: `ask.stop` was set.
    """
    excluded = dict(job.excluded)
    while True:
        attempt = folder / str(len(excluded))
        attempt.mkdir()
        tried = msgspec.structs.replace(job, excluded=excluded)
        built = children.build(tried, limits, attempt, ask)
        proof = prove(tried, built, attempt / built.model.name, schema, ask)
        if not proof.reason or job.override:
            return _with_proof(built, proof), attempt
        if built.recipe_name == job.profile.baseline.name:
            raise ParityError(proof.reason, "Let an approver override the gate.")
        excluded[built.recipe_name] = proof.reason


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
    unproven: list[str] = []
    if not built.precision.startswith("int"):
        return Proof("", accuracy, unproven)
    right = None
    for machine in job.profile.prove.emulated:
        emulator = find_emulator(machine)
        if emulator is None:
            unproven.append(f"{machine.cpu}: qemu-{machine.arch} is not installed here")
            continue
        right = right or _score(Path(job.master), job, schema, [], ask)
        prefix = [str(emulator), "-cpu", machine.cpu]
        try:
            scores = _score(variant, job, schema, prefix, ask)
        except ChildError as error:
            # too slow to emulate, or QEMU itself: the variant has done nothing wrong
            unproven.append(f"{machine.cpu}: {error.what}")
            continue
        accuracy[machine.cpu] = scores.right / len(scores.answers)
        reason = judge(built.recipe_name, scores, right, job.profile)
        if reason:
            return Proof(f"on an emulated {machine.cpu}, {reason}", accuracy, unproven)
    return Proof("", accuracy, unproven)


def judge(name: str, scores: Scores, master: Scores, profile: Profile) -> str:
    """Return why a variant is out of its budget, "" if it is within.

    Args:
        name: Of the recipe.
        scores: Of the variant, as emulated.
        master: Of the master, on the same samples, as this machine computes.
        profile: Whose budget counts.
    """
    pairs = zip(scores.answers, master.answers, strict=True)
    one = Candidate(
        name=name,
        precision="",
        accuracy=scores.right / len(scores.answers),
        disagreements=sum(mine != other for mine, other in pairs),
        samples=len(scores.answers),
    )
    return out_of_budget(one, master.right / len(master.answers), profile.objective)


def _score(
    model: Path, job: BuildJob, schema: Schema, prefix: list[str], ask: children.Ask
) -> Scores:
    wanted = ScoreJob(
        model=str(model), evaluation=job.evaluation, schema=schema, samples=SAMPLES
    )
    return children.score(wanted, LIMITS, ask, prefix=prefix)


def _with_proof(built: Built, proof: Proof) -> Built:
    front = [
        msgspec.structs.replace(one, emulated=proof.accuracy) if one.chosen else one
        for one in built.front
    ]
    return msgspec.structs.replace(built, front=front, unproven=proof.unproven)
