import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.manifests.delta.models import DTYPES, fine_tune, make_model, make_weights
from tests.manifests.delta.patching import apply_patch, round_trip


@given(st.binary(max_size=3000), st.binary(max_size=3000))
@settings(max_examples=150, deadline=None)
def test_any_two_byte_strings_round_trip(old: bytes, new: bytes) -> None:
    round_trip(old, new)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_two_generated_models_round_trip(data: st.DataObject) -> None:
    arrays = st.dictionaries(
        st.sampled_from("abcdefgh"),
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(DTYPES),
            st.lists(st.integers(0, 40), max_size=3).map(tuple),
        ),
        max_size=5,
    )

    def draw_model() -> bytes:
        tensors = {name: make_weights(*row) for name, row in data.draw(arrays).items()}
        inner = make_weights(7, shape=(9, 9)) if data.draw(st.booleans()) else None
        return make_model(tensors, inner=inner)

    round_trip(draw_model(), draw_model())


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_model_still_round_trips(data: st.DataObject) -> None:
    whole = make_model(
        {"w": make_weights(1, shape=(20, 20))}, inner=make_weights(2, shape=(8, 8))
    )
    damaged = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=6)):
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    round_trip(whole, bytes(damaged[:cut]))
    round_trip(bytes(damaged[:cut]), whole)


@pytest.mark.parametrize("dtype", sorted({*DTYPES} - {"bool"}))
def test_a_fine_tune_costs_less_than_half_of_the_file(dtype: str) -> None:
    old = make_weights(1, dtype, (512, 256))
    new = fine_tune(old, 2, rate=1e-6)
    whole = make_model({"w": new})
    assert len(round_trip(make_model({"w": old}), whole)) < len(whole) * 0.75


def special_floats(seed: int) -> NDArray[np.float32]:
    words = np.random.default_rng(seed).integers(0, 2**32, 5000, dtype=np.uint32)
    words[:40] = [
        0,
        1 << 31,
        0x7F800000,
        0xFF800000,
        0x7FC00001,
        0x7F800001,
        1,
        0x80000001,
    ] * 5
    return words.view(np.float32)


def test_nan_infinity_and_denormals_round_trip() -> None:
    old, new = special_floats(1), special_floats(2)
    round_trip(make_model({"w": old}), make_model({"w": new}))
    round_trip(make_model({"w": old[::-1].copy()}), make_model({"w": old}))


def test_an_identical_file_costs_a_head() -> None:
    model = make_model({"w": make_weights(1)})
    assert len(round_trip(model, model)) < 200


def test_renamed_and_reordered_tensors_cost_little() -> None:
    tensors = {f"layer.{n}.weight": make_weights(n, shape=(64, 64)) for n in range(30)}
    renamed = {
        f"block.{n}.w": value for n, value in reversed(list(enumerate(tensors.values())))
    }
    patch = round_trip(make_model(tensors), make_model(renamed))
    assert len(patch) < 1024 + 16 * len(tensors)


def test_blocks_cut_tensors_and_text_anywhere() -> None:
    old = make_weights(1, shape=(700, 1000))
    tensors = {"a": make_weights(5), "w": old, "z": make_weights(6, "float16")}
    moved = {name: fine_tune(value, 3) for name, value in tensors.items()}
    round_trip(make_model(tensors), make_model(moved))


def test_a_general_file_is_patched_where_it_changed() -> None:
    old = np.random.default_rng(1).bytes(5_000_000)
    new = old[:1_000_000] + b"inserted" + old[1_000_000:3_000_000] + old[3_000_100:]
    assert len(round_trip(old, new)) < 100_000


def test_a_patch_gives_the_same_file_whatever_pieces_it_is_read_in() -> None:
    old, new = make_model({"w": make_weights(1)}), make_model({"w": make_weights(2)})
    patch = round_trip(old, new)
    assert apply_patch(old, patch, new) == new


def test_general_files_may_move_their_parts_about() -> None:
    parts = [np.random.default_rng(seed).bytes(1_500_000) for seed in range(4)]
    old, new = b"".join(parts), parts[3] + parts[1] + b"new" + parts[0] + parts[2]
    assert len(round_trip(old, new)) < 100_000


@pytest.mark.parametrize(("before", "after"), [(400, 440), (440, 400)])
def test_a_tensor_that_grew_or_shrank_pays_for_its_new_rows(
    before: int, after: int
) -> None:
    weights = make_weights(1, shape=(440, 300))
    new = make_model({"w": weights[:after].copy()})
    patch = round_trip(make_model({"w": weights[:before].copy()}), new)
    assert len(patch) < 2000 + max(0, after - before) * 1200


def test_rows_that_moved_are_found() -> None:
    weights = make_weights(1, shape=(600, 300))
    moved = np.roll(weights, 7, axis=0)
    patch = round_trip(make_model({"w": weights}), make_model({"w": moved}))
    assert len(patch) < 20_000
