"""Loads, runs, scores and times a model; only in a limited child."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from modelfleet_manifests.release import Schema
from modelfleet_server.builds.datasets import Arrays, Dataset
from modelfleet_server.builds.errors import BuildError, DatasetError
from modelfleet_server.builds.metrics import find_metric

BATCH = 64
WARM = 5
RUNS = 200
ENOUGH_S = 0.4
"""Seconds; a model is timed `RUNS` times or for so long, but `FEWEST` times at least."""
FEWEST = 10


class Loaded:
    """A model in a session of one thread, on the CPU.

    Args:
        path: The model.
        schema: Of the master.
        name: What it is called in errors.
    """

    def __init__(self, path: Path, schema: Schema, name: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.name = name
        self.outputs = [tensor.name for tensor in schema.outputs]
        self.fixed = fixed_batch(schema)
        try:
            self._session = ort.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise BuildError(
                f"{name} does not load in ONNX Runtime: {_first(error)}",
                "Export the master for opset 17 with standard operators.",
            ) from error
        self._check_schema(schema)

    def _check_schema(self, schema: Schema) -> None:
        """An fp16 or int8 variant must not change what applications exchange with it."""
        has = [
            (v.name, v.type) for v in (*_inputs(self._session), *_outputs(self._session))
        ]
        wanted = [
            (t.name, _ORT_TYPES[t.datatype]) for t in (*schema.inputs, *schema.outputs)
        ]
        if has != wanted:
            raise BuildError(
                f"{self.name} has other inputs or outputs than the master: {has}",
                "This is a defect of the recipe; build another profile.",
            )

    def run(self, inputs: Arrays) -> Arrays:
        """Return the outputs by name.

        Raises:
            BuildError: It fails, or an output is not a finite number.
        """
        try:
            results = self._session.run(self.outputs, inputs)
        except Exception as error:
            raise BuildError(
                f"{self.name} fails on the evaluation set: {_first(error)}",
                "Try the model in ONNX Runtime on a sample of that set.",
            ) from error
        found = dict(zip(self.outputs, results, strict=True))
        for output, array in found.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise BuildError(
                    f"{self.name} gives values of {output!r} that are not finite",
                    "Its numbers overflow in this precision; build another profile.",
                )
        return found

    def run_all(self, data: Dataset) -> NDArray[Any]:
        """Return the first output for all samples, one after the other.

        Raises:
            BuildError: It fails.
            DatasetError: The output has not one row per sample.
        """
        if data.whole:
            return self._run_calls(data)
        parts: list[NDArray[Any]] = []
        for inputs in data.batches(self.fixed or BATCH):
            there = len(next(iter(inputs.values())))
            short = self.fixed - there if self.fixed else 0
            full = {name: _pad(array, short) for name, array in inputs.items()}
            out = self.run(full)[self.outputs[0]]
            if out.ndim == 0 or len(out) != there + short:
                raise self._not_per_sample(list(out.shape))
            parts.append(out[:there])
        return np.concatenate(parts)

    def _run_calls(self, data: Dataset) -> NDArray[Any]:
        parts = [self.run(inputs)[self.outputs[0]] for inputs in data.batches(1)]
        shapes = {part.shape for part in parts}
        if len(shapes) != 1:
            raise self._not_per_sample(sorted(shapes))
        # a call of one sample answers with one row
        single = parts[0].ndim > 1 and len(parts[0]) == 1
        return np.concatenate(parts) if single else np.stack(parts)

    def _not_per_sample(self, shape: list[Any]) -> DatasetError:
        return DatasetError(
            f"{self.name} cannot be scored, not even as a classifier: its first output "
            f"{self.outputs[0]!r} has the shape {shape}",
            "Put an output with one row per sample first.",
        )


def fixed_batch(schema: Schema) -> int | None:
    """Return how many samples the model takes at once, None if any number."""
    fixed = {tensor.shape[0] for tensor in schema.inputs if tensor.shape} - {-1}
    return max(fixed) if fixed else None


def latencies_ms(
    models: list[Loaded], data: Dataset, *, timer: Callable[[], float] = time.thread_time
) -> list[NDArray[np.float64]]:
    """Return how long one sample took in each of `models`, in milliseconds, unsorted.

    The models take turns, so that a busy machine is busy for all of them, and what counts
    is the CPU time of the one thread that computes.

    Args:
        models: To be compared.
        data: Samples to run; cycled through.
        timer: Seconds of this thread's CPU time.
    """
    size = 1 if data.whole else models[0].fixed or 1
    first = data.take(np.arange(min(32, max(1, len(data) // size)) * size) % len(data))
    full = list(first.batches(size))
    for model in models:
        for index in range(WARM):
            model.run(full[index % len(full)])
    taken: list[list[float]] = [[] for _ in models]
    began = timer()
    for index in range(RUNS):
        if index >= FEWEST and timer() - began > ENOUGH_S * len(models):
            break
        for model, times in zip(models, taken, strict=True):
            start = timer()
            model.run(full[index % len(full)])
            times.append((timer() - start) * 1000 / size)
    return [np.array(times) for times in taken]


class Exam:
    """An evaluation set with the master's answers, by which those of others are judged.

    Args:
        master: The full-precision model.
        data: The evaluation set.

    Raises:
        BuildError: The master fails.
        DatasetError: Its answers cannot be judged by the set's metric and labels.
    """

    def __init__(self, master: Loaded, data: Dataset) -> None:
        self.metric = find_metric(data.metric)
        self.answers = master.run_all(data)
        self.truth = self.answers if data.labels is None else data.labels
        self.metric.check(self.answers, self.truth)
        self.accuracy = self.metric.score(self.answers, self.truth)

    def grade(self, answers: NDArray[Any]) -> tuple[float, int]:
        """Return how good `answers` are, and on how many samples they are others.

        Raises:
            DatasetError: They cannot be judged.
        """
        self.metric.check(answers, self.truth)
        same = self.metric.same(answers, self.answers)
        return self.metric.score(answers, self.truth), int((~same).sum())

    def margins(self) -> NDArray[np.float64]:
        """Return how far the master is from another decision, by sample."""
        return self.metric.margins(self.answers)


def distances(answers: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest difference of each sample, as a share of the largest reference."""
    count = len(answers)
    if answers.shape != reference.shape:
        return np.ones(count)
    if answers.dtype.kind not in "biuf":
        return np.asarray((answers != reference).reshape(count, -1).any(axis=1), float)
    # one by one: all answers of a text recognizer in float64 would be a gigabyte
    off = [
        float(np.abs(mine.astype(np.float64) - other).max(initial=0))
        for mine, other in zip(answers, reference, strict=True)
    ]
    largest = max(abs(float(reference.max())), abs(float(reference.min())))
    return np.array(off) / max(largest, float(np.finfo(np.float32).tiny))


def relative_distance(answers: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return the Euclidean distance of answers as a share of the reference's length.

    Answers that are no numbers are 1 apart where they are not the same. At most 1.
    """
    if answers.shape != reference.shape:
        return 1.0
    if answers.dtype.kind not in "biuf":
        return float((answers != reference).mean() ** 0.5)
    length = float(np.linalg.norm(reference.astype(np.float64)))
    off = float(np.linalg.norm(answers.astype(np.float64) - reference))
    return min(1.0, off / max(length, float(np.finfo(np.float32).tiny)))


def decimal(value: float, digits: int) -> str:
    """Return `value` as a decimal string: documents hold no floats."""
    return f"{value:.{digits}f}"


def _pad(array: NDArray[Any], rows: int) -> NDArray[Any]:
    if rows <= 0:
        return array
    return np.concatenate([array, np.repeat(array[-1:], rows, axis=0)])


def _inputs(session: ort.InferenceSession) -> list[Any]:
    return list(session.get_inputs())


def _outputs(session: ort.InferenceSession) -> list[Any]:
    return list(session.get_outputs())


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


_ORT_TYPES = {
    "BOOL": "tensor(bool)",
    "FP16": "tensor(float16)",
    "FP32": "tensor(float)",
    "FP64": "tensor(double)",
    "BYTES": "tensor(string)",
    **{
        f"{sign}INT{bits}": f"tensor({sign.lower()}int{bits})"
        for sign in ("", "U")
        for bits in (8, 16, 32, 64)
    },
}
