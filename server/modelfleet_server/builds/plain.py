"""Loads a model and runs it on plain inputs, before anybody has an evaluation set.

Ones, and numbers between 0 and 1: whoever answers these with infinity, never, or with all
the memory there is, is not let in. Only in a limited child.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from modelfleet_manifests.release import Schema, Tensor
from modelfleet_server.builds.datasets import NUMPY, Arrays
from modelfleet_server.builds.errors import ModelRunError

RUN_S = 10.0
"""One run on one sample takes at most this long."""
SIZES = (1, 16, 224)
"""What is tried for axes of a free size, one after the other; the first axis has 1."""
_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "out of memory")


def try_out(path: Path, schema: Schema) -> None:
    """Return if the model at `path` answers plain inputs with numbers.

    A model with axes of a free size besides the first may be picky about them: failing on
    every size that is tried here is not held against it, only what it does when it runs.

    Raises:
        ModelRunError: It does not load or run, not end, or gives no finite numbers.
    """
    session = _load(path)
    free = any(size == -1 for tensor in schema.inputs for size in tensor.shape[1:])
    trouble = ""
    for size in SIZES if free else SIZES[:1]:
        trouble = ""
        for inputs in _plain(schema, size):
            trouble = trouble or _run(session, inputs, path.name)
        if not trouble:
            return
    if not free:
        raise ModelRunError(
            f"{path.name} fails on plain inputs: {trouble}",
            "Try it in ONNX Runtime on zeros and ones, and export it again.",
        )


def _load(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelRunError(
            f"{path.name} does not load in ONNX Runtime: {_first(error)}",
            "Export it for opset 17 with standard operators.",
        ) from error


def _run(session: ort.InferenceSession, inputs: Arrays, name: str) -> str:
    """Return why the model cannot take `inputs`, "" if it can.

    Raises:
        ModelRunError: It can, and does what no model may.
    """
    late = threading.Event()
    options = ort.RunOptions()
    options.log_severity_level = 4

    def stop() -> None:
        late.set()
        options.terminate = True

    timer = threading.Timer(RUN_S, stop)
    timer.daemon = True
    timer.start()
    try:
        outputs = session.run(None, inputs, options)
    except Exception as error:
        if late.is_set():
            raise ModelRunError(
                f"{name} did not answer a single plain input within {RUN_S:g} s",
                "It may loop without end: look at its Loop, Scan and If nodes.",
            ) from error
        if any(word in str(error) for word in _MEMORY):
            raise ModelRunError(
                f"{name} needs more memory for a single plain input than a check allows",
                "Look for tensors whose size is computed: Expand, Tile, ConstantOfShape.",
            ) from error
        return _first(error)
    finally:
        timer.cancel()
    _check_finite(outputs, name)
    return ""


def _check_finite(outputs: list[Any], name: str) -> None:
    for array in outputs:
        if getattr(array, "dtype", np.dtype(bool)).kind == "f":
            bad = int(array.size - np.isfinite(array).sum())
            if bad:
                raise ModelRunError(
                    f"{name} answers plain inputs with {bad} numbers of {array.size} that "
                    "are not finite",
                    "Look for divisions by zero, logarithms and weights that are NaN.",
                )


def _plain(schema: Schema, size: int) -> Iterator[Arrays]:
    rng = np.random.default_rng(0)
    for chance in (False, True):
        yield {tensor.name: _array(tensor, size, rng if chance else None) for tensor in
               schema.inputs}  # fmt: skip


def _array(tensor: Tensor, size: int, rng: np.random.Generator | None) -> NDArray[Any]:
    sizes = [1, *(size for _ in tensor.shape[1:])]
    shape = [there if there >= 0 else free for there, free in
             zip(tensor.shape, sizes, strict=False)]  # fmt: skip
    if tensor.datatype == "BYTES":
        return np.full(shape, "a", object)
    kind = np.dtype(NUMPY[tensor.datatype])
    if rng is None or kind.kind != "f":
        return np.ones(shape, kind)
    return rng.random(shape).astype(kind)


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
