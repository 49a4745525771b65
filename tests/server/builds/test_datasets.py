"""Evaluation sets that do not fit are refused before they cost anything."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.server.builds.models import write_set

from modelfleet_manifests.release import Schema, Tensor
from modelfleet_server.builds.datasets import merge_calls, read_dataset
from modelfleet_server.builds.errors import DatasetError

SCHEMA = Schema(
    inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 4])],
    outputs=[Tensor(name="scores", datatype="FP32", shape=[-1, 3])],
)
GOOD: dict[str, NDArray[Any] | None] = {
    "x": np.zeros((5, 4), np.float32),
    "y": np.zeros(5, np.int64),
}


def save_set(path: Path, arrays: Mapping[str, NDArray[Any] | None]) -> None:
    """Arrays that are None are left out."""
    kept: dict[str, Any] = {k: v for k, v in arrays.items() if v is not None}
    np.savez(path, **kept)


def test_a_fitting_set_is_read(tmp_path: Path) -> None:
    data = read_dataset(
        write_set(tmp_path / "set.npz"), SCHEMA, labelled=True, what="the set"
    )
    assert len(data) == 60
    assert data.labels is not None
    assert [len(batch["x"]) for batch in data.batches(32)] == [32, 28]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": None}, "no array 'x'"),
        ({"y": None}, "no array 'y'"),
        ({"x": np.zeros((5, 4))}, "float64"),
        ({"x": np.zeros((5, 3), np.float32)}, r"\[5, 3\]"),
        ({"x": np.zeros(5, np.float32)}, r"\[5\]"),
        ({"x": np.zeros((0, 4), np.float32)}, r"\[0\] samples"),
        ({"y": np.zeros(4, np.int64)}, "a label for each sample"),
        ({"y": np.array(1)}, "a label for each sample"),
        ({"metric": np.array([1, 2])}, "name of a metric"),
        ({"metric": np.array("beauty")}, "no metric 'beauty'"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, NDArray[Any] | None], says: str
) -> None:
    save_set(tmp_path / "set.npz", GOOD | change)
    with pytest.raises(DatasetError, match=says) as caught:
        read_dataset(tmp_path / "set.npz", SCHEMA, labelled=True, what="the set")
    assert caught.value.hint


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps({"x": 1})])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(DatasetError, match="the set is not an npz"):
        read_dataset(tmp_path / "set.npz", SCHEMA, labelled=True, what="the set")


def test_a_pickle_in_an_npz_is_never_loaded(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}] * 5, dtype=object)
    save_set(tmp_path / "set.npz", GOOD | {"x": objects})
    with pytest.raises(DatasetError, match="not an npz of plain arrays"):
        read_dataset(tmp_path / "set.npz", SCHEMA, labelled=True, what="the set")


STATEFUL = Schema(
    inputs=[
        Tensor(name="sound", datatype="FP32", shape=[-1, 8]),
        Tensor(name="state", datatype="FP32", shape=[2, -1, 3]),
        Tensor(name="rate", datatype="INT64", shape=[]),
    ],
    outputs=[Tensor(name="voice", datatype="FP32", shape=[-1, 1])],
)


def test_a_model_with_a_state_is_given_whole_calls(tmp_path: Path) -> None:
    arrays: dict[str, NDArray[Any] | None] = {
        "sound": np.arange(40, dtype=np.float32).reshape(5, 1, 8),
        "state": np.zeros((5, 2, 1, 3), np.float32),
        "rate": np.full(5, 16000),
        "y": np.zeros(5, np.int64),
    }
    save_set(tmp_path / "set.npz", arrays)
    data = read_dataset(tmp_path / "set.npz", STATEFUL, labelled=True, what="the set")
    assert (data.whole, len(data)) == (True, 5)
    calls = list(data.batches(64))
    assert [call["sound"].shape for call in calls] == [(1, 8)] * 5
    assert calls[0]["rate"].shape == ()
    joined = merge_calls(calls, STATEFUL)
    assert joined is not None
    assert (joined["sound"].shape, joined["state"].shape) == ((5, 8), (2, 5, 3))
    calls[1]["rate"] = np.array(8000)
    assert merge_calls(calls, STATEFUL) is None


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelfleet_server.builds.datasets.MAX_BYTES", 1000)
    np.savez_compressed(tmp_path / "set.npz", x=np.zeros((500, 4), np.float32))
    with pytest.raises(DatasetError, match="at most 1000"):
        read_dataset(tmp_path / "set.npz", SCHEMA, labelled=False, what="the set")
