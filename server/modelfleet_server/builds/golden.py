"""Golden inputs: a few samples that a device runs before it trusts a variant.

Half are samples on which the master is nearest to another decision, half those on which
the candidates were seen to differ most from it: there a runtime that computes wrongly
(saturated integers, another fp16 path) and another variant than the signed one show first.
The reference is what *this* variant answered here.
"""

import io
import zipfile
from math import floor, log2
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelfleet_manifests.profiles.recipe import Precision
from modelfleet_manifests.release import Schema
from modelfleet_server.builds.datasets import Arrays, Dataset, merge_calls
from modelfleet_server.builds.errors import BuildError
from modelfleet_server.builds.evaluate import Loaded, fixed_batch

COUNT = 16
MAX_BYTES = 300_000
FINER = 8
"""Outputs that are too large are rounded to this part of the tolerance, and compress."""
TOLERANCES: dict[Precision, tuple[float, str]] = {
    "fp32": (1e-4, "0.001"),
    "fp16": (2e-2, "0.02"),
    "int8": (5e-2, "0.05"),
    "int4": (5e-2, "0.05"),
}
"""Absolute (as a share of the largest reference) and relative tolerance. Other processors
add in another order, compute half floats truly or in 32 bits, and round quantized values
to the neighbour; saturation, which must be found, is an order of magnitude more."""


class Golden(NamedTuple):
    """Golden inputs with their outputs, as an npz, and how far off is still right.

    Attributes:
        data: Arrays `in.NAME` and `out.NAME`; the same bytes every time.
        atol: Absolute tolerance, a decimal.
        rtol: Relative tolerance, a decimal.
    """

    data: bytes
    atol: str
    rtol: str


def pick(margins: NDArray[np.floating], spreads: NDArray[np.floating]) -> list[int]:
    """Return all samples, those that tell variants apart best first.

    Args:
        margins: How far the master is from another decision, by sample.
        spreads: By how much any candidate's answer differs from the master's, by sample.
    """
    unsure = np.argsort(margins, kind="stable")
    apart = np.argsort(-spreads, kind="stable")
    turns = np.stack([unsure, apart], axis=1).ravel()
    return list(dict.fromkeys(int(index) for index in turns))


def make_golden(
    loaded: Loaded, data: Dataset, order: list[int], schema: Schema, precision: Precision
) -> Golden:
    """Run a variant on as many of the first samples of `order` as fit into `MAX_BYTES`.

    Args:
        loaded: The variant.
        data: The evaluation set.
        order: Samples of `data`, best first.
        schema: Of the master.
        precision: Of the variant.

    Raises:
        BuildError: The model fails, or even the fewest that it takes are too large.
    """
    fewest = 1 if data.whole else fixed_batch(schema) or 1
    if len(data) < fewest:
        raise BuildError(
            f"the evaluation set has fewer samples than the model takes at once ({fewest})",
            "Publish a larger evaluation set.",
        )
    count = fewest if fewest > 1 else min(COUNT, len(order))
    while count >= fewest:
        made = _try(loaded, data.take(np.array(order[:count])), schema, precision)
        if made is not None:
            return made
        count //= 2
    raise BuildError(
        f"{fewest} golden inputs with their outputs have more than {MAX_BYTES} bytes",
        "Export the model with smaller inputs or outputs.",
    )


def write_golden(inputs: Arrays, outputs: Arrays) -> bytes:
    """Return an npz with arrays `in.NAME` and `out.NAME`, the same bytes every time."""
    arrays = {f"in.{name}": array for name, array in inputs.items()}
    return _npz(arrays | {f"out.{name}": array for name, array in outputs.items()})


def tolerances(precision: Precision, outputs: Arrays) -> tuple[str, str]:
    """Return absolute and relative tolerance as decimals."""
    share, rtol = TOLERANCES[precision]
    largest = max(
        (
            float(np.abs(a).max())
            for a in outputs.values()
            if a.dtype.kind == "f" and a.size
        ),
        default=0.0,
    )
    return f"{max(largest * share, 1e-6):.9f}", rtol


def _try(
    loaded: Loaded, picked: Dataset, schema: Schema, precision: Precision
) -> Golden | None:
    """Return golden inputs of all these samples, None if they are too large."""
    calls = list(picked.batches(1)) if picked.whole else []
    joined = merge_calls(calls, schema) if calls else picked.inputs
    if joined is None:
        return None
    try:
        outputs = loaded.run(joined)
    except BuildError:
        if picked.whole and len(picked) > 1:
            return None  # it takes one call at a time
        raise
    atol, rtol = tolerances(precision, outputs)
    data = write_golden(joined, outputs)
    if len(data) > MAX_BYTES:
        rounded = {name: _rounded(array, float(atol)) for name, array in outputs.items()}
        data = write_golden(joined, rounded)
    return Golden(data, atol, rtol) if len(data) <= MAX_BYTES else None


def _rounded(array: NDArray[np.generic], atol: float) -> NDArray[np.generic]:
    """Round to the power of two below `atol / FINER`."""
    if array.dtype.kind != "f":
        return array
    step = 2.0 ** floor(log2(atol / FINER))
    return (np.rint(array.astype(np.float64) / step) * step).astype(array.dtype)


def _npz(arrays: Arrays) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            part = io.BytesIO()
            np.lib.format.write_array(part, arrays[name], allow_pickle=False)
            # the fixed date of ZipInfo keeps the bytes the same
            entry = zipfile.ZipInfo(f"{name}.npy")
            archive.writestr(entry, part.getvalue(), zipfile.ZIP_DEFLATED)
    return sink.getvalue()
