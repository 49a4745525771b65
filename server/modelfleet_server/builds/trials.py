"""A candidate on trial: built, past the door, loaded, run, scored. Only in a child."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.profiles.recipe import Recipe
from modelfleet_manifests.release import Schema
from modelfleet_server.builds import door, evaluate, steps
from modelfleet_server.builds.choosing import Candidate
from modelfleet_server.builds.datasets import Dataset, read_dataset
from modelfleet_server.builds.errors import BuildError, ModelError
from modelfleet_server.builds.mapping import WEIGHTS
from modelfleet_server.builds.memory import measure_mb
from modelfleet_server.builds.messages import BuildJob, ModelFacts

MODEL = "model.onnx"
CALIBRATION_BATCH = 16
RANGE_SAMPLES = 128


class Trial(NamedTuple):
    """A candidate that was built, loads and runs.

    Attributes:
        recipe: What it was made by.
        path: Its graph; other files of it lie beside it, and nothing else.
        loaded: Ready to run.
        memory_mb: What loading it and one run took.
    """

    recipe: Recipe
    path: Path
    loaded: evaluate.Loaded
    memory_mb: float

    @property
    def files(self) -> list[Path]:
        """All that a device loads, the graph first."""
        beside = sorted(set(self.path.parent.iterdir()) - {self.path})
        return [self.path, *beside]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)


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
    """Write what `recipe` makes of a master to `out`, and other files of it beside that.

    Raises:
        ModelError: The door refuses the master.
        BuildError: A step failed.
    """
    _build(master, door.check(master).schema, recipe, calibration, out)


def _build(
    master: Path, schema: Schema, recipe: Recipe, calibration: Dataset | None, out: Path
) -> None:
    batch = evaluate.fixed_batch(schema) or CALIBRATION_BATCH
    steps.build(master, recipe, steps.Bench(out.parent, calibration, batch), out)


def attempt(
    job: BuildJob,
    material: Material,
    recipe: Recipe,
    folder: Path,
    trials: dict[str, Trial],
) -> Candidate:
    """Build, load, run and score a candidate; only then it is one.

    Args:
        job: What to build.
        material: What it is built from and judged by.
        recipe: Of the candidate.
        folder: The candidate gets a folder of its own in it.
        trials: Takes it, if it runs.

    Raises:
        BuildError: It is the profile's last, and does not run.
    """
    one = Candidate(name=recipe.name, precision=recipe.precision)
    has = sorted(set(recipe.unless) & set(material.facts.operators))
    one.refused = job.excluded.get(recipe.name, "")
    if has:
        one.refused = f"{recipe.name} does not suit models with {', '.join(has)}"
    if one.refused:
        return one
    try:
        trial, answers = _try(job.profile, material, recipe, folder)
    except BuildError as error:
        if recipe == job.profile.baseline:
            raise
        one.refused = error.what
        return one
    trials[recipe.name] = trial
    one.memory_mb, one.size = trial.memory_mb, trial.size
    one.samples = len(answers)
    spreads = evaluate.distances(answers, material.exam.answers)
    np.maximum(material.spreads, spreads, out=material.spreads)
    one.distance = float(spreads.max())
    one.accuracy, one.disagreements = material.exam.grade(answers)
    return one


def _try(
    profile: Profile, material: Material, recipe: Recipe, folder: Path
) -> tuple[Trial, NDArray[Any]]:
    path = folder / "candidates" / recipe.name / MODEL
    path.parent.mkdir(parents=True)
    if recipe.precision == "fp16":
        batch = evaluate.fixed_batch(material.schema) or CALIBRATION_BATCH
        samples = material.evaluation.take(slice(0, RANGE_SAMPLES // batch * batch))
        steps.check_half_range(material.master, samples.batches(batch), path)
    _build(material.master, material.schema, recipe, material.calibration, path)
    name = f"the {recipe.name} variant"
    _check_door(profile, path, name)
    few = material.evaluation.take(slice(0, evaluate.fixed_batch(material.schema) or 1))

    def load() -> evaluate.Loaded:
        loaded = evaluate.Loaded(path, material.schema, name)
        loaded.run_all(few)
        return loaded

    loaded, memory_mb = measure_mb(load)
    return Trial(recipe, path, loaded, memory_mb), loaded.run_all(material.evaluation)


def _check_door(profile: Profile, path: Path, name: str) -> None:
    """What goes to devices is as strictly ONNX as what came in, and not too new."""
    try:
        facts = door.check(path)
    except ModelError as error:
        raise BuildError(
            f"{name} is not what a device may load: {error.what}",
            "This is a defect of the recipe; build another profile.",
        ) from error
    if set(facts.external) - {WEIGHTS}:
        raise BuildError(
            f"{name} names other files than its recipe writes: {facts.external}",
            "This is a defect of the recipe; build another profile.",
        )
    if facts.opset > profile.opset or facts.ir > profile.ir:
        raise BuildError(
            f"{name} needs opset {facts.opset} and file format {facts.ir}; "
            f"{profile.name} ends at {profile.opset} and {profile.ir}",
            f"Export the master with opset {min(profile.opset, 17)}.",
        )
