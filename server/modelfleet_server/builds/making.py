"""One build from end to end, inside the child: build, load, score, time, choose, golden."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from modelfleet_manifests.release import Schema
from modelfleet_server.builds import door, evaluate, golden, steps
from modelfleet_server.builds.datasets import Dataset, read_dataset
from modelfleet_server.builds.domain import (
    BuildJob,
    Built,
    BuiltFile,
    Progress,
)
from modelfleet_server.builds.errors import BuildError, ModelError
from modelfleet_server.builds.patches import make_patches
from modelfleet_server.builds.recipes import (
    ACCURACY_BUDGET,
    FASTER,
    Plan,
    Recipe,
    plan_for,
    toolchain_digest,
)

CALIBRATION_BATCH = 16
RANGE_SAMPLES = 128
MODEL, GOLDEN = "model.onnx", "golden.npz"
Tell = Callable[[Progress], None]


class Trial(NamedTuple):
    """A variant that was built, loads and runs, and the classes that it answered."""

    recipe: Recipe
    path: Path
    loaded: evaluate.Loaded
    answers: NDArray[np.intp]


class Candidate(NamedTuple):
    """A variant and what was measured."""

    trial: Trial
    accuracy: float
    disagreement: float
    latency_ms: float
    p95_ms: float


class Material(NamedTuple):
    """What a build starts from; `scores` are the master's on the evaluation set."""

    master: Path
    schema: Schema
    evaluation: Dataset
    calibration: Dataset | None
    scores: NDArray[Any]


def make(job: BuildJob, folder: Path, tell: Tell) -> Built:
    """Write the variant and its golden inputs into `folder`; return what they are.

    Raises:
        AppError: One of `errors`; nothing in `folder` counts then.
    """
    plan = plan_for(job.profile)
    total = 4 + len(plan.recipes)
    tell(Progress("reading the master", 0, total))
    material = _read(job)
    trials, refused = [], []
    for index, recipe in enumerate(plan.recipes):
        tell(Progress(f"building {recipe.precision}", 1 + index, total))
        try:
            trials.append(_try(material, recipe, folder))
        except BuildError as error:
            if recipe == plan.otherwise:
                raise
            refused.append(error.what)
    tell(Progress("measuring", total - 3, total))
    candidates = _measure(material, trials)
    chosen, why = choose(plan, candidates) if not refused else (candidates[0], refused[0])
    tell(Progress("choosing golden inputs", total - 2, total))
    built = _finish(material, chosen, folder, why)
    tell(Progress("making deltas", total - 1, total))
    patches, problems = make_patches(job.bases, folder / MODEL, folder)
    return msgspec.structs.replace(built, patches=patches, problems=problems)


def choose(plan: Plan, candidates: list[Candidate]) -> tuple[Candidate, str]:
    """Return the candidate that counts, and why.

    Args:
        plan: What is wanted, and what otherwise.
        candidates: In the order of `plan.recipes`: the wanted one is last.
    """
    otherwise, wanted = candidates[0], candidates[-1]
    if wanted is otherwise:
        return wanted, "the only recipe of this profile"
    name, other = wanted.trial.recipe.precision, otherwise.trial.recipe.precision
    lost = otherwise.accuracy - wanted.accuracy
    if lost > ACCURACY_BUDGET:
        return otherwise, f"{name} loses {lost:.4f} of accuracy, over {ACCURACY_BUDGET}"
    times = f"{wanted.latency_ms:.3f} ms here, {other} {otherwise.latency_ms:.3f} ms"
    if plan.faster and wanted.latency_ms > FASTER * otherwise.latency_ms:
        return otherwise, f"{name} is not faster: {times}"
    why = (
        f"{name} is faster: {times}" if plan.faster else f"{name} is right for the profile"
    )
    return wanted, f"{why}, and it loses {max(lost, 0):.4f} of accuracy"


def _read(job: BuildJob) -> Material:
    master = Path(job.master)
    schema = door.check(master).schema
    evaluation = read_dataset(
        Path(job.evaluation), schema, labelled=True, what="the evaluation set"
    )
    calibration = None
    if job.calibration is not None:
        calibration = read_dataset(
            Path(job.calibration), schema, labelled=False, what="the calibration set"
        )
    loaded = evaluate.Loaded(master, schema, "the master")
    scores = evaluate.scores_of(loaded, evaluation)
    return Material(master, schema, evaluation, calibration, scores)


def _try(material: Material, recipe: Recipe, folder: Path) -> Trial:
    """Build, load and run a variant: only then it is one."""
    path = folder / f"{recipe.precision}.onnx"
    batch = evaluate.fixed_batch(material.schema) or CALIBRATION_BATCH
    if recipe.precision == "fp16":
        samples = material.evaluation.take(slice(0, RANGE_SAMPLES // batch * batch))
        steps.check_half_range(material.master, samples.batches(batch), path)
    steps.build(material.master, recipe, material.calibration, path, batch=batch)
    name = f"the {recipe.precision} variant"
    _check_door(path, name)
    loaded = evaluate.Loaded(path, material.schema, name)
    scores = evaluate.scores_of(loaded, material.evaluation)
    return Trial(recipe, path, loaded, scores.argmax(axis=1))


def _check_door(path: Path, name: str) -> None:
    """What goes to devices is as strictly ONNX as what came in."""
    try:
        door.check(path)
    except ModelError as error:
        raise BuildError(
            f"{name} is not what a device may load: {error.what}",
            "This is a defect of the recipe; build another profile.",
        ) from error


def _measure(material: Material, trials: list[Trial]) -> list[Candidate]:
    data = material.evaluation
    times = evaluate.latencies_ms([trial.loaded for trial in trials], data)
    return [
        Candidate(
            trial=trial,
            accuracy=float((trial.answers == data.labels).mean()),
            disagreement=float((trial.answers != material.scores.argmax(axis=1)).mean()),
            latency_ms=float(np.median(time)),
            p95_ms=float(np.percentile(time, 95)),
        )
        for trial, time in zip(trials, times, strict=True)
    ]


def _finish(material: Material, chosen: Candidate, folder: Path, why: str) -> Built:
    recipe, tools = chosen.trial.recipe, steps.installed_tools()
    fixed = evaluate.fixed_batch(material.schema)
    picked = material.evaluation.take(
        golden.least_sure(material.scores, fixed or golden.COUNT)
    )
    if fixed and len(picked) < fixed:
        raise BuildError(
            f"the evaluation set has fewer samples than the model takes at once ({fixed})",
            "Publish a larger evaluation set.",
        )
    outputs = chosen.trial.loaded.run(picked.inputs)
    reference = golden.write_golden(picked.inputs, outputs, fewest=fixed or 1)
    (folder / GOLDEN).write_bytes(reference)
    path = chosen.trial.path.rename(folder / MODEL)
    length = path.stat().st_size
    atol, rtol = golden.tolerances(recipe.precision, outputs)
    master_right = material.scores.argmax(axis=1) == material.evaluation.labels
    return Built(
        precision=recipe.precision,
        why=why,
        opset=steps.opset_of(onnx.load(path)),
        model=BuiltFile(name=MODEL, length=length),
        golden=BuiltFile(name=GOLDEN, length=len(reference)),
        atol=atol,
        rtol=rtol,
        recipe=recipe.digest(tools),
        toolchain=toolchain_digest(tools),
        calibrated=recipe.calibrated,
        metrics={
            "accuracy": evaluate.decimal(chosen.accuracy, 4),
            "master-accuracy": evaluate.decimal(float(master_right.mean()), 4),
            "disagreement": evaluate.decimal(chosen.disagreement, 4),
            "latency-ms": evaluate.decimal(chosen.latency_ms, 4),
            "latency-p95-ms": evaluate.decimal(chosen.p95_ms, 4),
            "size-bytes": str(length),
        },
    )
