"""What changes of a model cost, each with a bound."""

import lzma
import random
import zlib

import numpy as np
import onnx
import pytest
import zstandard
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tests.manifests.delta.models import fine_tune, make_model, make_weights
from tests.manifests.delta.patching import round_trip


def make_layers(count: int = 24) -> dict[str, NDArray[np.generic]]:
    return {f"layer.{n}.weight": make_weights(n, shape=(48, 64)) for n in range(count)}


def test_metadata_alone_costs_less_than_a_kilobyte() -> None:
    model = make_model(make_layers())
    told = onnx.load_from_string(model)
    told.producer_version = "2.0"
    told.doc_string = "trained again, with the same weights"
    told.metadata_props.add(key="accuracy", value="0.93")
    patch = round_trip(model, told.SerializeToString(deterministic=True))
    assert len(patch) < 1024


def test_an_identical_model_of_many_tensors_costs_a_head() -> None:
    model = make_model(make_layers(200))
    assert len(round_trip(model, model)) < 200


@pytest.mark.parametrize("back", [False, True])
def test_retyped_tensors_cost_little(*, back: bool) -> None:
    wide = {f"w{n}": make_weights(n, shape=(300, 200)) for n in range(3)}
    narrow = {name: value.astype(np.float16) for name, value in wide.items()}
    again = {name: value.astype(np.float32) for name, value in narrow.items()}
    old, new = make_model(narrow if back else wide), make_model(again if back else narrow)
    patch = round_trip(old, new)
    assert len(patch) < 1024 + 16 * 3


@pytest.mark.parametrize("back", [False, True])
def test_a_tensor_retyped_and_trained_costs_no_more_than_a_new_one(*, back: bool) -> None:
    wide = make_weights(1, shape=(300, 200))
    narrow = fine_tune(wide, 2, rate=1e-3).astype(np.float16)
    old, new = (narrow, fine_tune(wide, 3)) if back else (wide, narrow)
    rest = make_layers()
    patch = round_trip(make_model(rest | {"w": old}), make_model(rest | {"w": new}))
    fresh = round_trip(make_model(rest), make_model(rest | {"w": new}))
    assert len(patch) < len(fresh) + 64


@pytest.mark.parametrize("kind", ["float_data", "int32_data"])
def test_packed_fields_cost_what_changed(kind: str) -> None:
    def make(values: list[float] | list[int]) -> bytes:
        dtype = TensorProto.FLOAT if kind == "float_data" else TensorProto.INT32
        tensor = helper.make_tensor("w", dtype, [60, 50], values)
        assert not tensor.HasField("raw_data")
        graph = helper.make_graph([], "g", [], [], [tensor])
        return bytes(helper.make_model(graph).SerializeToString(deterministic=True))

    generator = np.random.default_rng(1)
    before = generator.normal(0, 1, 3000) if kind == "float_data" else np.arange(3000)
    after = before.copy()
    after[700:760] = before[700:760][::-1]
    old, new = make(before.tolist()), make(after.tolist())
    assert len(round_trip(old, new)) < 1200


def test_a_bigger_output_layer_costs_its_new_rows() -> None:
    old, rest = make_weights(1, shape=(100, 400)), make_layers()
    grown = np.concatenate([old, make_weights(2, shape=(20, 400))])
    patch = round_trip(make_model(rest | {"w": old}), make_model(rest | {"w": grown}))
    assert len(patch) < grown[100:].nbytes * 0.95 + 600


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("seed", range(4))
def test_few_changed_rows_cost_what_they_hold(dtype: str, seed: int) -> None:
    old = make_weights(seed, dtype, (1500, 128))
    some = np.random.default_rng(seed).choice(1500, 25, replace=False)
    new = old.copy()
    new[some] = fine_tune(old[some], seed, rate=1e-3)
    patch = round_trip(make_model({"emb": old}), make_model({"emb": new}))
    assert len(patch) < new[some].nbytes * 0.95 + 500


@pytest.mark.parametrize("seed", [1, 21])
def test_weight_decay_of_untouched_rows_costs_almost_nothing(seed: int) -> None:
    old = make_weights(seed, shape=(1500, 256))
    some = np.random.default_rng(seed).choice(1500, 25, replace=False)
    new = old * np.float32(1 - 3e-5)
    new[some] = fine_tune(old[some], seed, rate=1e-3)
    patch = round_trip(make_model({"emb": old}), make_model({"emb": new}))
    assert len(patch) < new[some].nbytes * 0.95 + 1500


def make_plain(kind: str) -> tuple[bytes, bytes]:
    """Return two files that are no models."""
    generator = random.Random(5)
    words = [generator.randbytes(generator.randint(2, 9)).hex() for _ in range(900)]
    text = " ".join(generator.choices(words, k=60_000)).encode()
    noise = generator.randbytes(400_000)
    if kind == "text":
        return text, text[:90_000] + b"a new paragraph " + text[90_100:300_000] + text[:50]
    if kind == "compressed":
        return zlib.compress(text), zlib.compress(text + b"more")
    if kind == "noise":
        return noise, generator.randbytes(400_000)
    if kind == "moved":
        return noise, noise[200_000:] + noise[:200_000]
    if kind == "records":
        rows = np.arange(90_000, dtype="<u4").reshape(-1, 3)
        return rows.tobytes(), (rows + np.uint32(7)).tobytes()
    return b"", text if kind == "from nothing" else lzma.compress(text)


@pytest.mark.parametrize(
    "kind", ["text", "compressed", "noise", "moved", "records", "from nothing", "xz"]
)
def test_other_files_cost_at_most_one_percent_more_than_zstd(kind: str) -> None:
    old, new = make_plain(kind)
    whole = zstandard.ZstdCompressor(level=19)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, window_log=27, enable_ldm=True
    )
    against = zstandard.ZstdCompressor(
        dict_data=zstandard.ZstdCompressionDict(
            old, dict_type=zstandard.DICT_TYPE_RAWCONTENT
        ),
        compression_params=parameters,
    )
    best = min(len(whole.compress(new)), len(against.compress(new)) if old else len(new))
    assert len(round_trip(old, new)) < best * 1.01 + 256


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 4.2), ("float16", 2.0)])
def test_a_filter_that_learnt_in_one_tap_costs_that_tap(dtype: str, bits: float) -> None:
    """All rows moved with their batch norm, and one tap of nine learnt besides."""
    old = make_weights(1, dtype, (64, 64, 3, 3))
    generator = np.random.default_rng(2)
    moved = old * generator.normal(1, 1e-3, (64, 1, 1, 1))
    moved[:, :, 1, 1] += generator.normal(0, 1e-4, (64, 64))
    new = moved.astype(dtype)
    patch = round_trip(make_model({"w": old}), make_model({"w": new}))
    assert len(patch) * 8 < old.size * bits


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("at", [0, 133, 400])
@pytest.mark.parametrize("back", [False, True])
def test_rows_that_came_or_went_anywhere_cost_what_they_hold(
    dtype: str, at: int, *, back: bool
) -> None:
    old = make_weights(1, dtype, (400, 300))
    added = make_weights(2, dtype, (20, 300))
    tuned = fine_tune(old, 3, rate=1e-7) if dtype != "int8" else old
    grown = np.concatenate([tuned[:at], added, tuned[at:]])
    same = round_trip(make_model({"w": old}), make_model({"w": tuned}))
    pair = make_model({"w": old}), make_model({"w": grown})
    patch = round_trip(*reversed(pair) if back else pair)
    assert len(patch) < len(same) * 1.05 + (0 if back else added.nbytes * 0.95) + 700
