"""Evaluation and calibration sets: an npz with one array per input, and labels `y`.

Samples lie along the first axis, as models take them in batches. A model whose inputs do
not all have the samples there (a recurrent state, a rate) is given whole calls instead:
then every array has one axis more than its input, and each row is one call.

What an evaluation set is judged by stands in its array `metric`, see `metrics`.
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelfleet_manifests.release import Schema, Tensor
from modelfleet_server.builds.errors import DatasetError
from modelfleet_server.builds.metrics import DEFAULT, find_metric

LABELS, METRIC = "y", "metric"
MAX_NAME = 100
MAX_BYTES = 1 << 30
"""Bytes of all arrays together, uncompressed."""
Arrays = dict[str, NDArray[Any]]

NUMPY = {
    "BOOL": "bool",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    **{
        f"{sign}INT{n}": f"{sign}int{n}".lower()
        for sign in ("", "U")
        for n in (8, 16, 32, 64)
    },
}
"""Types of arrays by the words of the Open Inference Protocol."""


class Dataset(NamedTuple):
    """Inputs by name, each with the samples along its first axis.

    Attributes:
        inputs: Arrays by the names of inputs.
        labels: What is right, None where nobody said; see `metrics`.
        metric: What answers are judged by.
        whole: Each row is a whole call and not a sample of a batch.
    """

    inputs: Arrays
    labels: NDArray[Any] | None
    metric: str = DEFAULT
    whole: bool = False

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.inputs.values())))

    def take(self, which: slice | NDArray[np.int64]) -> "Dataset":
        """Return some of the samples."""
        labels = None if self.labels is None else self.labels[which]
        inputs = {name: array[which] for name, array in self.inputs.items()}
        return Dataset(inputs, labels, self.metric, self.whole)

    def batches(self, size: int) -> Iterator[Arrays]:
        """Yield what the model is given: `size` samples at a time, the last perhaps fewer.

        Whole calls are yielded one by one.
        """
        if self.whole:
            for index in range(len(self)):
                yield {name: np.asarray(a[index]) for name, a in self.inputs.items()}
            return
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size)).inputs


def read_dataset(path: Path, schema: Schema, *, labelled: bool, what: str) -> Dataset:
    """Return the samples at `path`, having checked that they fit `schema`.

    Args:
        path: An npz, untrusted.
        schema: Of the model that they are for.
        labelled: Labels and the name of a metric are read; labels must be there where the
            metric needs them.
        what: What the set is called in errors.

    Raises:
        DatasetError: It is no npz without pickles, too large, or an array is missing or
            has another type, shape or number of samples.
    """
    arrays = _load(path, what)
    whole = _is_whole(arrays, schema)
    inputs = {
        tensor.name: _fitting(arrays, tensor, what, whole=whole) for tensor in schema.inputs
    }
    counts = {len(array) for array in inputs.values()}
    if len(counts) != 1 or counts == {0}:
        raise DatasetError(
            f"the inputs of {what} have {sorted(counts)} samples",
            "Every array needs the same number of samples along its first axis.",
        )
    if not labelled:
        return Dataset(inputs, None, whole=whole)
    metric = _metric(arrays, what)
    return Dataset(inputs, _labels(arrays, counts.pop(), metric, what), metric, whole)


def merge_calls(calls: Sequence[Arrays], schema: Schema) -> Arrays | None:
    """Return several whole calls as one, None where they cannot be one.

    Each input is joined along its first axis of a free size; one that has none must be the
    same in all calls.
    """
    joined: Arrays = {}
    for tensor in schema.inputs:
        parts = [call[tensor.name] for call in calls]
        if -1 in tensor.shape:
            joined[tensor.name] = np.concatenate(parts, axis=tensor.shape.index(-1))
        elif all(np.array_equal(part, parts[0]) for part in parts):
            joined[tensor.name] = parts[0]
        else:
            return None
    return joined


def _load(path: Path, what: str) -> Arrays:
    hint = "Write it by numpy.savez_compressed(path, NAME_OF_INPUT=..., y=labels)."
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
        if size > MAX_BYTES:
            raise DatasetError(
                f"{what} has {size} bytes unpacked, at most {MAX_BYTES} are allowed",
                "A few thousand samples are enough.",
            )
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (
        OSError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        NotImplementedError,
    ) as error:
        raise DatasetError(f"{what} is not an npz of plain arrays: {error}", hint) from None


def _is_whole(arrays: Arrays, schema: Schema) -> bool:
    """Say whether every array that is there has one axis more than its input."""
    there = [tensor for tensor in schema.inputs if tensor.name in arrays]
    return bool(there) and all(
        arrays[tensor.name].ndim == len(tensor.shape) + 1 for tensor in there
    )


def _fitting(arrays: Arrays, tensor: Tensor, what: str, *, whole: bool) -> NDArray[Any]:
    array = arrays.get(tensor.name)
    if array is None:
        raise DatasetError(
            f"{what} has no array {tensor.name!r}; it has {sorted(arrays)}",
            "Name the arrays as the model names its inputs.",
        )
    wanted = np.dtype(NUMPY[tensor.datatype]) if tensor.datatype in NUMPY else None
    sizes = [-1, *tensor.shape] if whole else [-1, *tensor.shape[1:]]
    fits = (
        (whole or tensor.shape)
        and len(sizes) == array.ndim
        and all(size in (-1, there) for size, there in zip(sizes, array.shape, strict=True))
    )
    if array.dtype != wanted or not fits:
        raise DatasetError(
            f"the array {tensor.name!r} of {what} is {array.dtype} {list(array.shape)}, "
            f"the model takes {tensor.datatype} {tensor.shape}",
            "Store the samples as the model takes them, samples along the first axis; or "
            "a whole call per row, where an input has no samples there.",
        )
    return array


def _metric(arrays: Arrays, what: str) -> str:
    name = arrays.get(METRIC, np.array(DEFAULT))
    if name.dtype.kind != "U" or name.size != 1 or len(str(name.item())) > MAX_NAME:
        raise DatasetError(
            f"the array {METRIC!r} of {what} is not the name of a metric",
            f"Store it as text, for example {METRIC}=numpy.array({DEFAULT!r}).",
        )
    return str(name.item())


def _labels(arrays: Arrays, samples: int, metric: str, what: str) -> NDArray[Any] | None:
    labels, needed = arrays.get(LABELS), find_metric(metric).needs_labels
    if labels is None and not needed:
        return None
    if labels is None or labels.ndim == 0 or len(labels) != samples:
        raise DatasetError(
            f"{what} has no array {LABELS!r} with a label for each sample",
            f"Store what is right for each of the {samples} samples, such as the index of "
            "its class.",
        )
    return labels
