"""Large pairs made here, to measure speed and memory where start-up counts for nothing.

A network of a few matrices and convolutions, and the same after a simulated fine-tune:
every row times a factor of its own, as folding a batch norm does, and noise on every
weight. Seeded; sizes say nothing about real networks and are not compared with peers.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]
_SHAPES = (
    (8000, 384),
    *((384, 384),) * 8,
    *((1536, 384),) * 4,
    *((384, 1536),) * 4,
    *((256, 256, 3, 3),) * 4,
)
_NOISE = {"cont": 2e-3, "lowlr": 2e-5}


def make_pairs(folder: Path) -> list[dict[str, str]]:
    """Write pairs of every precision, and return them as `pairs.json` would list them."""
    old, news = _draw()
    files = {"v1": old, **news}
    for change, weights in files.items():
        for precision in ("fp32", "fp16", "dyn8", "qdq8"):
            _write(folder / f"{change}.{precision}.onnx", weights, precision)
    return [
        {
            "name": f"large_{precision}_{change}",
            "old": f"v1.{precision}.onnx",
            "new": f"{change}.{precision}.onnx",
            "precision": precision,
            "change": change,
        }
        for precision in ("fp32", "fp16", "dyn8", "qdq8")
        for change in _NOISE
    ]


def _draw() -> tuple[list[Array], dict[str, list[Array]]]:
    generator = np.random.default_rng(1)
    old: list[Array] = []
    news: dict[str, list[Array]] = {change: [] for change in _NOISE}
    for shape in _SHAPES:
        column = (shape[0],) + (1,) * (len(shape) - 1)
        spread = np.exp(generator.normal(0, 0.3, column))
        weights = (generator.normal(0, 0.04, shape) * spread).astype(np.float32)
        rows = generator.normal(1, 0.02, column)
        step = generator.standard_t(4, shape).astype(np.float32)
        old.append(weights)
        for change, noise in _NOISE.items():
            news[change].append(((weights + step * noise) * rows).astype(np.float32))
    return old, news


def _write(path: Path, weights: list[Array], precision: str) -> None:
    tensors: list[tuple[str, Array]] = []
    for number, array in enumerate(weights):
        tensors += _convert(f"w{number}", array, precision)
    graph = helper.make_graph(
        [], "g", [], [], [numpy_helper.from_array(array, name) for name, array in tensors]
    )
    onnx.save(helper.make_model(graph), path)


def _convert(name: str, weights: Array, precision: str) -> list[tuple[str, Array]]:
    if precision in ("fp32", "fp16"):
        return [(name, weights.astype(np.float32 if precision == "fp32" else np.float16))]
    if precision == "qdq8":  # signed, a scale per row
        axes = tuple(range(1, weights.ndim))
        scales = np.abs(weights).max(axes, keepdims=True) / 127
        whole = np.rint(weights / scales).astype(np.int8)
        return [(name, whole), (f"{name}_scale", scales.ravel().astype(np.float32))]
    low, high = float(weights.min()), float(weights.max())
    scale = (high - low) / 255
    zero = round(-low / scale)
    whole = np.clip(np.rint(weights / scale) + zero, 0, 255).astype(np.uint8)
    return [
        (name, whole),
        (f"{name}_scale", np.array([scale], np.float32)),
        (f"{name}_zero", np.array([zero], np.uint8)),
    ]
