"""The self-test lets good releases pass and contains all others."""

from pathlib import Path

import numpy as np
import pytest
from tests.agent import models

from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime import selftest
from modelfleet_agent.store import Record, Store


@pytest.fixture(scope="module")
def gold() -> bytes:
    return models.golden(models.linear())


def test_a_good_release_passes(store: Store) -> None:
    test = selftest.run(models.good(store))
    assert test.ok, test.reason
    assert test.max_abs < 1e-5
    assert test.latency_ms > 0
    assert test.memory_kib > 10_000


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (models.not_finite(), "E_NOT_FINITE"),
        (models.linear(0.5), "E_SELF_TEST"),
        (models.memory_hog(), "E_MEMORY"),
        (b"not an ONNX file", "E_LOAD"),
    ],
    ids=["not finite", "other answers", "memory hog", "garbage"],
)
def test_a_bad_release_fails_with_its_reason(
    store: Store, gold: bytes, model: bytes, code: str
) -> None:
    test = selftest.run(models.release(store, model, gold))
    assert (test.ok, test.code) == (False, code)
    assert test.reason
    assert len(test.reason) < 400


def test_a_model_that_never_answers_is_ended(store: Store, gold: bytes) -> None:
    test = selftest.run(models.release(store, models.endless(), gold), wall_s=3)
    assert test.code == "E_TOO_LONG"


def test_answers_within_the_tolerance_pass(store: Store, gold: bytes) -> None:
    placed = models.release(store, models.linear(0.00005), gold)
    assert selftest.run(placed).ok


def test_the_median_must_be_as_fast_as_demanded(store: Store) -> None:
    test = selftest.run(models.good(store), max_latency_ms=0.000001)
    assert test.code == "E_SLOW"


def test_altered_files_are_refused_before_they_are_loaded(store: Store) -> None:
    placed = models.good(store)
    path = Path(placed.files[0].path)
    path.chmod(0o600)
    path.write_bytes(models.linear(9))
    assert selftest.run(placed).code == "E_DIGEST"


def test_a_missing_file_is_worth_a_retry(store: Store) -> None:
    placed = models.good(store)
    Path(placed.files[0].path).unlink()
    with pytest.raises(RetryableError, match="E_MISSING"):
        selftest.run(placed)


def test_a_release_without_golden_inputs_is_refused(store: Store) -> None:
    assert selftest.run(models.release(store, models.linear())).code == "E_GOLDEN"


@pytest.mark.parametrize(
    "archive",
    [
        b"not an archive",
        models.npz(np.zeros((2, 9), np.float32), np.zeros((2, 3), np.float32)),
        models.npz(np.zeros((2, 4), np.float32), np.zeros((5, 3), np.float32)),
    ],
    ids=["garbage", "input of another shape", "output of another shape"],
)
def test_golden_inputs_that_do_not_fit_are_refused(store: Store, archive: bytes) -> None:
    test = selftest.run(models.release(store, models.linear(), archive))
    assert not test.ok
    assert test.code in ("E_GOLDEN", "E_WARM", "E_SELF_TEST")


ARCHIVE = models.npz(np.zeros((2, 4), np.float32), np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    "archive",
    [
        b"not an archive",
        ARCHIVE[:-30],
        ARCHIVE.replace(bytes(24), bytes(23) + b"x", 1),
        ARCHIVE[ARCHIVE.index(b"\x93NUMPY") :][:160],
    ],
    ids=["garbage", "cut", "altered", "one array"],
)
def test_golden_inputs_that_cannot_be_read_are_named(store: Store, archive: bytes) -> None:
    test = selftest.run(models.release(store, models.linear(), archive))
    assert (test.ok, test.code) == (False, "E_GOLDEN")


def test_a_model_with_weights_in_another_file_loads(store: Store, tmp_path: Path) -> None:
    graph, weights = models.with_external_data(tmp_path)
    x = np.ones((1, 4), np.float32)
    y = x @ np.random.default_rng(3).normal(size=(4, 64)).astype(np.float32)
    record = Record(
        release="0" * 64,
        model="demo/external",
        version="1.0.0",
        profile="generic",
        files=(
            models.put(store, "model.onnx", graph),
            models.put(store, "weights.bin", weights),
        ),
        golden=models.put(store, "golden.npz", models.npz(x, y)),
        rtol="0.001",
    )
    test = selftest.run(store.place(record))
    assert test.ok, test.reason
