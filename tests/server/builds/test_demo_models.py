"""The demonstration's models are what their notes say: measured in ONNX Runtime."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from tests.server.builds.models import ASSETS, digits

from modelfleet_manifests.canonical import canonical
from modelfleet_server import demo
from modelfleet_server.demo.traffic import drifted

VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


def read(part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with np.load(ASSETS / f"digits.{part}.npz", allow_pickle=False) as archive:
        return archive["x"], archive["y"]


def accuracy(version: str, x: NDArray[np.float32], y: NDArray[np.int64]) -> float:
    (logits,) = ort.InferenceSession(digits(version)).run(None, {"x": x})
    return float((logits.argmax(axis=1) == y).mean())


def live() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    x, y = read("live")
    many = np.concatenate([drifted(x, np.random.default_rng(seed)) for seed in range(5)])
    return many, np.tile(y, 5)


def lineage(version: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(
        (ASSETS / f"digits-{version}.lineage.json").read_text()
    )
    return value


def test_the_best_version_on_clean_images_is_the_worst_on_drifted_ones() -> None:
    clean, drift = read("eval"), live()
    offline = [accuracy(version, *clean) for version in VERSIONS]
    field = [accuracy(version, *drift) for version in VERSIONS]
    assert offline[2] >= max(offline[:2])
    assert min(field[:2]) > 0.94
    assert field[2] < 0.7
    assert abs(field[1] - field[0]) < 0.01


def test_no_image_is_in_two_parts() -> None:
    parts = [read(part)[0] for part in ("eval", "live", "calibration")]
    images = [image.tobytes() for part in parts for image in part]
    assert len(set(images)) == len(images) == 450 + 350 + 128


def test_drift_follows_the_seed_and_stays_in_range() -> None:
    x, _ = read("live")
    before = x.copy()
    first, again, other = (drifted(x, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(x, before)
    assert (first.dtype, first.shape) == (x.dtype, x.shape)
    assert 0 <= first.min() <= first.max() <= 1


def test_drift_without_noise_is_a_shift_by_one_pixel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelfleet_server.demo.traffic.NOISE", 0.0)
    dot = np.zeros((40, 1, 8, 8), np.float32)
    dot[:, 0, 4, 4] = 1
    moved = drifted(dot, np.random.default_rng(0))
    places = {tuple(np.argwhere(image[0])[0]) for image in moved}
    assert places == {(3, 4), (5, 4), (4, 3), (4, 5)}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_lineage_names_the_script_and_pins_that_ship(version: str) -> None:
    folder = Path(demo.__file__).parent / "train"
    told = lineage(version)
    for key, name in (("code", "train.py"), ("environment", "requirements.txt")):
        assert told[key] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert set(told) == {
        "code", "data", "environment", "hyperparameters", "parent", "seed"
    }  # fmt: skip
    assert canonical(told)


def test_only_the_fine_tuned_version_has_a_parent() -> None:
    assert [lineage(version)["parent"] for version in VERSIONS] == [None, "1.0.0", None]


def test_all_that_ships_is_small() -> None:
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) < 2_000_000
