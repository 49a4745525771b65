"""Loads a model and runs it on plain inputs, before anybody has an evaluation set.

Zeros, ones, and numbers between 0 and 1: whoever answers these with infinity, never, with
all the memory there is, or each time with something else, is not let in. Only in a limited
child.
"""

import threading
import time
from collections.abc import Callable, Iterator
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
REPEATS = 3
QUICK_S = 0.5
"""A run that takes less is repeated `REPEATS` times, another once."""
SIZES = (1, 16, 224)
"""What is tried for axes of a free size, one after the other; the first axis has 1."""
Fill = Callable[[list[int]], NDArray[Any]]
"""Makes an array of a shape."""
_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate", "out of memory",
           "would require more than")  # fmt: skip


def try_out(path: Path, schema: Schema) -> None:
    """Return if the model at `path` answers plain inputs with numbers.

    A model may be picky about whole numbers, such as words that it does not know, and about
    axes of a free size: failing on some of what is tried here is not held against it, only
    what it does when it runs. One without free axes must run on something.

    Raises:
        ModelRunError: It does not load or run, not end, gives no finite numbers, or not
            the same ones twice.
    """
    session = _load(path)
    free = any(size == -1 for tensor in schema.inputs for size in tensor.shape[1:])
    trouble = ""
    for size in SIZES if free else SIZES[:1]:
        found = [_run(session, inputs, path.name) for inputs in _plain(schema, size)]
        if "" in found:
            return
        trouble = trouble or found[0]
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
    began = time.monotonic()
    outputs, trouble = _answer(session, inputs, name)
    if outputs is None:
        return trouble
    quick = time.monotonic() - began < QUICK_S
    _check_finite(outputs, name)
    for _ in range(REPEATS if quick else 1):
        again, _ = _answer(session, inputs, name)
        if again is None or not all(map(_same, outputs, again)):
            raise ModelRunError(
                f"{name} answers the same input differently each time",
                "Export it for inference, without dropout, sampling or random numbers: no "
                "device could test that it runs right.",
            )
    return ""


def _answer(
    session: ort.InferenceSession, inputs: Arrays, name: str
) -> tuple[list[Any] | None, str]:
    """Return the outputs, or why there are none.

    Raises:
        ModelRunError: It takes too long, or too much memory.
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
        return session.run(None, inputs, options), ""
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
        return None, _first(error)
    finally:
        timer.cancel()


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 arrays, or lists of text
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


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
    """Yield inputs of zeros, ones and chance; whole numbers are 1 in all of them.

    Zeros are a black picture or silence; but words and masks of zeros are no input at all.
    """
    rng = np.random.default_rng(0)
    floats = any(tensor.datatype.startswith("FP") for tensor in schema.inputs)
    fills: list[Fill] = [np.zeros, np.ones, rng.random]
    for fill in fills if floats else [np.ones]:
        yield {tensor.name: _array(tensor, size, fill) for tensor in schema.inputs}


def _array(tensor: Tensor, size: int, fill: Fill) -> NDArray[Any]:
    sizes = [1, *(size for _ in tensor.shape[1:])]
    shape = [there if there >= 0 else free for there, free in
             zip(tensor.shape, sizes, strict=False)]  # fmt: skip
    if tensor.datatype == "BYTES":
        return np.full(shape, "a", object)
    kind = np.dtype(NUMPY[tensor.datatype])
    made = fill(shape) if kind.kind == "f" else np.ones(shape)
    return np.asarray(made, kind)


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
