"""One build from end to end, inside the child: build, load, score, time, choose, golden."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx

from modelfleet_manifests.profiles.recipe import Recipe
from modelfleet_server.builds import door, evaluate, golden, steps
from modelfleet_server.builds.choosing import Candidate, choose
from modelfleet_server.builds.datasets import read_dataset
from modelfleet_server.builds.messages import BuildJob, Built, BuiltFile
from modelfleet_server.builds.patches import pack, weigh_files
from modelfleet_server.builds.recipes import recipe_digest
from modelfleet_server.builds.toolchain import (
    installed_tools,
    lock_file,
    toolchain_digest,
)
from modelfleet_server.builds.trials import (
    Material,
    Trial,
    attempt,
    read_calibration,
)
from modelfleet_server.jobs.domain import Progress

GOLDEN = "golden.npz"
Tell = Callable[[Progress], None]


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
        front.append(_known(job, recipe) or attempt(job, material, recipe, folder, trials))
    tell(Progress("measuring", total - 3, total))
    _measure(job, material, front, trials)
    chosen, why = choose(job.profile, front, material.exam.accuracy, override=job.override)
    if chosen.name not in trials:  # measured in an attempt before, and built now
        recipe = next(one for one in recipes if one.name == chosen.name)
        tell(Progress(f"building {recipe.name}", total - 3, total))
        attempt(msgspec.structs.replace(job, known=[]), material, recipe, folder, trials)
    tell(Progress("choosing golden inputs", total - 2, total))
    built = _finish(material, trials[chosen.name], chosen, folder)
    tell(Progress("packing", total - 1, total))
    packed, problems = pack([file.name for file in built.files], [GOLDEN], folder)
    return msgspec.structs.replace(
        built,
        why=why,
        front=front,
        overridden=bool(job.override),
        packed=packed,
        problems=problems,
    )


def _read(job: BuildJob) -> Material:
    master = Path(job.master)
    calibration = None if job.calibration is None else Path(job.calibration)
    facts = door.check(master)
    evaluation = read_dataset(
        Path(job.evaluation), facts.schema, labelled=True, what="the evaluation set"
    )
    samples = read_calibration(calibration, facts.schema)
    loaded = evaluate.Loaded(master, facts.schema, "the master")
    exam = evaluate.Exam(loaded, evaluation)
    return Material(master, facts, evaluation, samples, exam, np.zeros(len(evaluation)))


def _known(job: BuildJob, recipe: Recipe) -> Candidate | None:
    """Return what an attempt before measured of a candidate, None if there was none."""
    for one in job.known:
        if one.name == recipe.name:
            refused = one.refused or job.excluded.get(one.name, "")
            return msgspec.structs.replace(one, refused=refused, chosen=False)
    return None


def _measure(
    job: BuildJob, material: Material, front: list[Candidate], trials: dict[str, Trial]
) -> None:
    """Fill in what is measured of all candidates together."""
    if not trials:
        return
    _time(material, front, trials)
    order = golden.pick(material.exam.margins(), material.spreads)[: golden.COUNT]
    for one in front:
        if one.name in trials:
            trial = trials[one.name]
            one.golden = _golden_distance(material, trial, order)
            one.wire = weigh_files(trial.files, job.bases)


def _golden_distance(material: Material, trial: Trial, order: list[int]) -> float:
    """Run a candidate on what would be its golden inputs; return how far off it is."""
    rows = np.array(order)
    answers = trial.loaded.run_all(material.evaluation.take(rows))
    return evaluate.relative_distance(answers, material.exam.answers[rows])


def _time(material: Material, front: list[Candidate], trials: dict[str, Trial]) -> None:
    """Time all candidates against each other."""
    rows = [one for one in front if one.name in trials]
    times = evaluate.latencies_ms(
        [trials[one.name].loaded for one in rows], material.evaluation
    )
    for one, taken in zip(rows, times, strict=True):
        one.latency_ms = float(np.median(taken))
        one.p95_ms = float(np.percentile(taken, 95))


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
    size = trial.size
    path, *beside = [file.rename(folder / file.name) for file in trial.files]
    return Built(
        recipe_name=recipe.name,
        precision=recipe.precision,
        why="",
        opset=steps.opset_of(onnx.load(path, load_external_data=False)),
        model=_file(path),
        beside=[_file(file) for file in beside],
        golden=_file(folder / GOLDEN),
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
            "size-bytes": str(size),
        },
    )


def _file(path: Path) -> BuiltFile:
    return BuiltFile(name=path.name, length=path.stat().st_size)
