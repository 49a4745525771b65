"""One build from end to end, inside the child: build, load, score, time, choose, golden."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.profiles.recipe import Recipe
from modelfleet_manifests.release import Schema
from modelfleet_server.builds import door, evaluate, golden, steps
from modelfleet_server.builds.choosing import Candidate, choose
from modelfleet_server.builds.datasets import Dataset, read_dataset
from modelfleet_server.builds.errors import BuildError, ModelError
from modelfleet_server.builds.messages import BuildJob, Built, BuiltFile, ModelFacts, Pair
from modelfleet_server.builds.patches import pack, weigh
from modelfleet_server.builds.recipes import recipe_digest
from modelfleet_server.builds.toolchain import (
    installed_tools,
    lock_file,
    toolchain_digest,
)
from modelfleet_server.jobs.domain import Progress

CALIBRATION_BATCH = 16
RANGE_SAMPLES = 128
MODEL, GOLDEN = "model.onnx", "golden.npz"
Tell = Callable[[Progress], None]


class Trial(NamedTuple):
    """A candidate that was built, loads and runs."""

    recipe: Recipe
    path: Path
    loaded: evaluate.Loaded


class Material(NamedTuple):
    """What a build starts from.

    Attributes:
        master: The full-precision model.
        facts: What the door found out about it.
        evaluation: Samples to judge by.
        calibration: Samples to quantize by.
        exam: The master's answers, and what judges those of others.
        spreads: By how much any candidate differed from the master, by sample so far.
    """

    master: Path
    facts: ModelFacts
    evaluation: Dataset
    calibration: Dataset | None
    exam: evaluate.Exam
    spreads: NDArray[np.float64]

    @property
    def schema(self) -> Schema:
        """Of the master, and so of every variant."""
        return self.facts.schema


def make(job: BuildJob, folder: Path, tell: Tell) -> Built:
    """Write the variant and its golden inputs into `folder`; return what they are.

    Raises:
        AppError: One of `errors`; nothing in `folder` counts then.
    """
    recipes = job.profile.candidates
    total = 4 + len(recipes)
    tell(Progress("reading the master", 0, total))
    material = _read(job)
    trials: dict[str, Trial] = {}
    front: list[Candidate] = []
    for index, recipe in enumerate(recipes):
        tell(Progress(f"building {recipe.name}", 1 + index, total))
        front.append(_attempt(job, material, recipe, folder, trials))
    tell(Progress("measuring", total - 3, total))
    _time(material, front, trials)
    _weigh(job, front, trials)
    chosen, why = choose(job.profile, front, material.exam.accuracy, override=job.override)
    tell(Progress("choosing golden inputs", total - 2, total))
    built = _finish(material, trials[chosen.name], chosen, folder)
    tell(Progress("packing", total - 1, total))
    packed, problems = pack((MODEL, GOLDEN), folder)
    return msgspec.structs.replace(
        built,
        why=why,
        front=front,
        overridden=bool(job.override),
        packed=packed,
        problems=problems,
    )


def read_material(
    master: Path, evaluation: Path, calibration: Path | None
) -> tuple[ModelFacts, Dataset, Dataset | None]:
    """Return the facts of a master, its evaluation set and its calibration set.

    Raises:
        AppError: One of them is refused.
    """
    facts = door.check(master)
    samples = read_dataset(
        evaluation, facts.schema, labelled=True, what="the evaluation set"
    )
    return facts, samples, read_calibration(calibration, facts.schema)


def read_calibration(path: Path | None, schema: Schema) -> Dataset | None:
    """Return the calibration set at `path`, None where there is none.

    Raises:
        DatasetError: It is refused.
    """
    if path is None:
        return None
    return read_dataset(path, schema, labelled=False, what="the calibration set")


def build_candidate(
    master: Path, recipe: Recipe, calibration: Dataset | None, out: Path
) -> None:
    """Write what `recipe` makes of a master that passed the door.

    Raises:
        BuildError: A step failed.
    """
    facts = door.check(master)
    batch = evaluate.fixed_batch(facts.schema) or CALIBRATION_BATCH
    steps.build(master, recipe, steps.Bench(out.parent, calibration, batch), out)


def _read(job: BuildJob) -> Material:
    master = Path(job.master)
    calibration = None if job.calibration is None else Path(job.calibration)
    facts, evaluation, samples = read_material(master, Path(job.evaluation), calibration)
    loaded = evaluate.Loaded(master, facts.schema, "the master")
    exam = evaluate.Exam(loaded, evaluation)
    return Material(master, facts, evaluation, samples, exam, np.zeros(len(evaluation)))


def _attempt(
    job: BuildJob,
    material: Material,
    recipe: Recipe,
    folder: Path,
    trials: dict[str, Trial],
) -> Candidate:
    """Build, load, run and score a candidate; only then it is one."""
    one = Candidate(name=recipe.name, precision=recipe.precision)
    has = sorted(set(recipe.unless) & set(material.facts.operators))
    one.refused = job.excluded.get(recipe.name, "")
    if has:
        one.refused = f"{recipe.name} does not suit models with {', '.join(has)}"
    if one.refused:
        return one
    before = evaluate.resident_mb()
    try:
        trial, answers = _try(job.profile, material, recipe, folder)
    except BuildError as error:
        if recipe == job.profile.baseline:
            raise
        one.refused = error.what
        return one
    trials[recipe.name] = trial
    one.memory_mb = max(0.0, evaluate.resident_mb() - before)
    one.size = trial.path.stat().st_size
    one.samples = len(answers)
    spreads = evaluate.distances(answers, material.exam.answers)
    np.maximum(material.spreads, spreads, out=material.spreads)
    one.distance = float(spreads.max())
    one.accuracy, one.disagreements = material.exam.grade(answers)
    return one


def _try(
    profile: Profile, material: Material, recipe: Recipe, folder: Path
) -> tuple[Trial, NDArray[Any]]:
    path = folder / f"{recipe.name}.onnx"
    if recipe.precision == "fp16":
        batch = evaluate.fixed_batch(material.schema) or CALIBRATION_BATCH
        samples = material.evaluation.take(slice(0, RANGE_SAMPLES // batch * batch))
        steps.check_half_range(material.master, samples.batches(batch), path)
    build_candidate(material.master, recipe, material.calibration, path)
    name = f"the {recipe.name} variant"
    _check_door(profile, path, name)
    loaded = evaluate.Loaded(path, material.schema, name)
    return Trial(recipe, path, loaded), loaded.run_all(material.evaluation)


def _check_door(profile: Profile, path: Path, name: str) -> None:
    """What goes to devices is as strictly ONNX as what came in, and not too new."""
    try:
        facts = door.check(path)
    except ModelError as error:
        raise BuildError(
            f"{name} is not what a device may load: {error.what}",
            "This is a defect of the recipe; build another profile.",
        ) from error
    if facts.opset > profile.opset or facts.ir > profile.ir:
        raise BuildError(
            f"{name} needs opset {facts.opset} and file format {facts.ir}; "
            f"{profile.name} ends at {profile.opset} and {profile.ir}",
            f"Export the master with opset {min(profile.opset, 17)}.",
        )


def _time(material: Material, front: list[Candidate], trials: dict[str, Trial]) -> None:
    """Time all candidates against each other."""
    rows = [one for one in front if one.name in trials]
    times = evaluate.latencies_ms(
        [trials[one.name].loaded for one in rows], material.evaluation
    )
    for one, taken in zip(rows, times, strict=True):
        one.latency_ms = float(np.median(taken))
        one.p95_ms = float(np.percentile(taken, 95))


def _weigh(job: BuildJob, front: list[Candidate], trials: dict[str, Trial]) -> None:
    """Estimate what each candidate costs a device that runs what most run now."""
    bases = {job.base, None}
    for one in front:
        if one.name in trials:
            new = str(trials[one.name].path)
            weights = [weigh(Pair(old=base, new=new)) for base in bases]
            one.wire = min(one.size or 0, *weights)


def _finish(material: Material, trial: Trial, chosen: Candidate, folder: Path) -> Built:
    recipe, tools = trial.recipe, installed_tools()
    reference = golden.make_golden(
        trial.loaded,
        material.evaluation,
        golden.pick(material.exam.margins(), material.spreads),
        material.schema,
        recipe.precision,
    )
    (folder / GOLDEN).write_bytes(reference.data)
    path = trial.path.rename(folder / MODEL)
    length = path.stat().st_size
    return Built(
        recipe_name=recipe.name,
        precision=recipe.precision,
        why="",
        opset=steps.opset_of(onnx.load(path)),
        model=BuiltFile(name=MODEL, length=length),
        golden=BuiltFile(name=GOLDEN, length=len(reference.data)),
        atol=reference.atol,
        rtol=reference.rtol,
        recipe=recipe_digest(recipe, tools),
        toolchain=toolchain_digest(tools, lock_file()),
        calibrated=recipe.calibrated,
        metrics={
            "accuracy": evaluate.decimal(chosen.accuracy or 0.0, 4),
            "master-accuracy": evaluate.decimal(material.exam.accuracy, 4),
            "disagreement": evaluate.decimal(
                (chosen.disagreements or 0) / chosen.samples, 4
            ),
            "latency-ms": evaluate.decimal(chosen.latency_ms or 0.0, 4),
            "latency-p95-ms": evaluate.decimal(chosen.p95_ms or 0.0, 4),
            "size-bytes": str(length),
        },
    )
