"""The files that come with the demonstration, wherever the package is installed."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PACKAGE = "modelfleet_server.demo"
VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


@dataclass(frozen=True, slots=True)
class Files:
    """Paths of one version: what `modelfleet publish` takes."""

    master: Path
    lineage: Path
    evaluation: Path
    calibration: Path


@contextmanager
def unpacked(version: str) -> Iterator[Files]:
    """Give the files of a version as paths, also out of a zipped package."""
    names = (
        f"digits-{version}.onnx",
        f"digits-{version}.lineage.json",
        "digits.eval.npz",
        "digits.calibration.npz",
    )
    with ExitStack() as stack:
        yield Files(*(stack.enter_context(as_file(_asset(name))) for name in names))


def read_live() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the images [N, 1, 8, 8] and labels [N] that live traffic is made of."""
    with np.load(io.BytesIO(_asset("digits.live.npz").read_bytes())) as found:
        return found["x"], found["y"]


def _asset(name: str) -> Traversable:
    return files(PACKAGE) / "assets" / name
