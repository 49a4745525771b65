"""Evaluation and calibration sets: an npz with one array per input, and labels `y`."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelfleet_manifests.release import Schema, Tensor
from modelfleet_server.builds.errors import DatasetError

LABELS = "y"
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
    """Inputs by name, each with the samples along its first axis, and their labels."""

    inputs: Arrays
    labels: NDArray[np.int64] | None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.inputs.values())))

    def take(self, which: slice | NDArray[np.int64]) -> "Dataset":
        """Return some of the samples."""
        labels = None if self.labels is None else self.labels[which]
        return Dataset({name: a[which] for name, a in self.inputs.items()}, labels)

    def batches(self, size: int) -> Iterator[Arrays]:
        """Yield all inputs, `size` samples at a time; the last may have fewer."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size)).inputs


def read_dataset(path: Path, schema: Schema, *, labelled: bool, what: str) -> Dataset:
    """Return the samples at `path`, having checked that they fit `schema`.

    Args:
        path: An npz, untrusted.
        schema: Of the model that they are for.
        labelled: Labels must be there.
        what: What the set is called in errors.

    Raises:
        DatasetError: It is no npz without pickles, too large, or an array is missing or
            has another type, shape or number of samples.
    """
    arrays = _load(path, what)
    inputs = {tensor.name: _fitting(arrays, tensor, what) for tensor in schema.inputs}
    counts = {len(array) for array in inputs.values()}
    if len(counts) != 1 or counts == {0}:
        raise DatasetError(
            f"the inputs of {what} have {sorted(counts)} samples",
            "Every array needs the same number of samples along its first axis.",
        )
    if not labelled:
        return Dataset(inputs, None)
    return Dataset(inputs, _labels(arrays, counts.pop(), what))


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


def _fitting(arrays: Arrays, tensor: Tensor, what: str) -> NDArray[Any]:
    array = arrays.get(tensor.name)
    if array is None:
        raise DatasetError(
            f"{what} has no array {tensor.name!r}; it has {sorted(arrays)}",
            "Name the arrays as the model names its inputs.",
        )
    wanted = np.dtype(NUMPY[tensor.datatype]) if tensor.datatype in NUMPY else None
    fits = 0 < array.ndim == len(tensor.shape) and all(
        size in (-1, there)
        for size, there in zip(tensor.shape[1:], array.shape[1:], strict=True)
    )
    if array.dtype != wanted or not fits:
        raise DatasetError(
            f"the array {tensor.name!r} of {what} is {array.dtype} {list(array.shape)}, "
            f"the model takes {tensor.datatype} {tensor.shape}",
            "Store the samples as the model takes them, samples along the first axis.",
        )
    return array


def _labels(arrays: Arrays, samples: int, what: str) -> NDArray[np.int64]:
    labels = arrays.get(LABELS)
    if labels is None or labels.shape != (samples,) or labels.dtype.kind not in "iu":
        raise DatasetError(
            f"{what} has no array {LABELS!r} with one whole number per sample",
            f"Store the index of the right class of each of the {samples} samples.",
        )
    return labels.astype(np.int64)
