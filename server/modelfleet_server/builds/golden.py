"""Golden inputs: a few samples that a device runs before it trusts a variant.

They are samples on which the master is least sure, where a runtime that computes wrongly
(saturated integers, another fp16 path) shows first; the reference is what *this* variant
answered here.
"""

import io
import zipfile

import numpy as np
from numpy.typing import NDArray

from modelfleet_manifests.profiles.recipe import Precision
from modelfleet_server.builds.datasets import Arrays
from modelfleet_server.builds.errors import BuildError

COUNT = 16
MAX_BYTES = 200_000
TOLERANCES: dict[Precision, tuple[float, str]] = {
    "fp32": (1e-4, "0.001"),
    "fp16": (2e-2, "0.02"),
    "int8": (5e-2, "0.05"),
    "int4": (5e-2, "0.05"),
}
"""Absolute (as a share of the largest reference) and relative tolerance. Other processors
add in another order, compute half floats truly or in 32 bits, and round quantized values
to the neighbour; saturation, which must be found, is an order of magnitude more."""


def least_sure(scores: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return the samples whose two best scores are closest, closest first.

    Args:
        scores: The master's, shape [samples, classes], at least 2 classes.
        count: How many at most.
    """
    best = np.sort(scores, axis=1)
    margins = best[:, -1] - best[:, -2]
    return np.argsort(margins, kind="stable")[:count].astype(np.int64)


def write_golden(inputs: Arrays, outputs: Arrays, *, fewest: int = 1) -> bytes:
    """Return an npz with arrays `in.NAME` and `out.NAME`, the same bytes every time.

    Readable with `allow_pickle=False`. If it is too large, samples are left out from the
    end, but at least `fewest` stay.

    Raises:
        BuildError: They are still larger than `MAX_BYTES`.
    """
    count = len(next(iter(inputs.values())))
    while count >= fewest:
        arrays = {f"in.{name}": array[:count] for name, array in inputs.items()}
        arrays |= {f"out.{name}": array[:count] for name, array in outputs.items()}
        data = _npz(arrays)
        if len(data) <= MAX_BYTES:
            return data
        count //= 2
    raise BuildError(
        f"{fewest} golden inputs with their outputs have more than {MAX_BYTES} bytes",
        "Export the model with smaller inputs or outputs.",
    )


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
