import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet_manifests.delta import contexts, floats
from modelfleet_manifests.delta.bits import BitReader, pack_bits, unpack_bits
from modelfleet_manifests.delta.container import Method, Op
from modelfleet_manifests.delta.groups import read_groups
from modelfleet_manifests.delta.lanes import keys_of
from modelfleet_manifests.delta.prediction import Piece, Side, predict
from modelfleet_manifests.delta.rans import (
    Decoder,
    Layout,
    choose_layout,
    encode_symbols,
    slower_growth,
)
from modelfleet_manifests.delta.symbols import join, lay_joints, split
from modelfleet_manifests.delta.tables import Tables

SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS, st.integers(0, 400))
@settings(max_examples=80, deadline=None)
def test_bit_fields_come_back(seed: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    widths = generator.integers(0, 33, size).astype(np.uint8)
    values = generator.integers(0, 2**32, size, dtype=np.uint64)
    values &= (np.uint64(1) << widths.astype(np.uint64)) - np.uint64(1)
    data = pack_bits(values.astype(np.uint32), widths)
    assert np.array_equal(unpack_bits(data, widths), values)
    reader = BitReader(data)
    cut = size // 3
    parts = [reader.take(widths[:cut]), reader.take(widths[cut:])]
    reader.finish()
    assert np.array_equal(np.concatenate(parts), values)


@given(SEEDS, st.sampled_from([8, 16, 32]), st.integers(1, 300))
@settings(max_examples=80, deadline=None)
def test_residuals_come_back_from_symbols_and_fields(
    seed: int, bits: int, size: int
) -> None:
    generator = np.random.default_rng(seed)
    spread = generator.integers(1, bits, size)
    left = generator.integers(-(2**31), 2**31, size, dtype=np.int64) >> (32 - spread)
    left[0] = -(2 ** (bits - 1))
    shifts = np.arange(bits - 1, dtype=np.uint8)
    context = generator.integers(0, bits - 6, size).astype(np.uint8)
    parts = split(left.astype(np.int32), shifts[context], bits)
    least, widths = join(context, parts.symbols, lay_joints(shifts, bits // 8))
    assert np.array_equal(parts.widths, widths)
    assert np.all(parts.fields.astype(np.uint64) >> parts.widths.astype(np.uint64) == 0)
    found = (least + parts.fields).astype(np.int64)
    mask = (1 << bits) - 1
    assert np.array_equal(found & mask, left & mask)


def draw_symbols(
    seed: int, size: int, skew: float
) -> tuple[Tables, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    symbols = np.minimum(generator.geometric(skew, size) - 1, 20).astype(np.uint8)
    context = generator.integers(10, 14, size).astype(np.uint8)
    return Tables(contexts.lay_guesses(4)), symbols, context


@given(SEEDS, st.integers(1, 9000), st.floats(0.05, 0.999))
@settings(max_examples=60, deadline=None)
def test_symbols_come_back_from_any_number_of_lanes(
    seed: int, size: int, skew: float
) -> None:
    tables, symbols, context = draw_symbols(seed, size, skew)
    keys = keys_of(context, symbols)
    for _ in range(8):
        tables.learn([keys[:: tables.stride]], size)
    codes = tables.codes.take(keys)
    symbols[codes < 1 << 16] = 62
    codes = tables.codes.take(keys_of(context, symbols))
    layout = choose_layout(codes, size)
    while (data := encode_symbols(layout, codes)) is None:
        layout = slower_growth(layout)
    decoder = Decoder(layout, memoryview(data))
    found = np.empty(size, np.uint8)
    decoder.run_to(size, tables.decoding(np.arange(10, 14)), context, found)
    decoder.finish()
    assert np.array_equal(found, symbols)


def test_many_lanes_cost_little() -> None:
    tables, symbols, context = draw_symbols(1, 300_000, 0.3)
    keys = keys_of(context, symbols)
    tables.learn([keys], symbols.size)
    codes = tables.codes.take(keys)
    layout = choose_layout(codes, symbols.size)
    data = encode_symbols(layout, codes)
    assert data is not None
    ideal = float((13 - np.log2(codes >> 16)).sum()) / 8
    assert layout.top >= 10
    assert len(data) < ideal * 1.015


@given(st.binary(max_size=300), st.integers(0, 20), st.integers(0, 20), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_a_decoder_fed_with_noise_ends_in_one_error(
    data: bytes, top: int, bottom: int, steps: int
) -> None:
    tables = Tables(contexts.lay_guesses(4))
    layout = Layout(200, top, bottom, steps)
    try:
        decoder = Decoder(layout, memoryview(data))
        found = np.empty(200, np.uint8)
        context = np.full(200, 12, np.uint8)
        decoder.run_to(200, tables.decoding(np.array([12])), context, found)
        decoder.finish()
    except ValueError:
        return


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_odd_floats_are_predicted_as_they_were(kind: int) -> None:
    layout = floats.FORMATS[kind]
    bits = 32 if kind == 1 else 16
    top = layout.mask << layout.mantissa
    odd = [0, 1, (1 << layout.mantissa) - 1, top, top | 1, top - 1]
    words = np.array(odd + [word | 1 << bits - 1 for word in odd], f"<u{bits // 8}")
    factors = np.full(words.size, 1.5, np.float32)
    assert np.array_equal(floats.scale(words, factors, kind)[0], words)


def test_floats_are_cast_to_the_nearest_with_ties_to_even() -> None:
    words = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0xC0490FDB, 0], "<u4")
    brains = floats.cast(words, 1, 3)
    assert brains.tolist() == [0x3F80, 0x3F82, 0x3F81, 0xC049, 0]
    assert np.array_equal(floats.cast(brains, 3, 1), brains.astype("<u4") << 16)
    halves = floats.cast(words, 1, 2)
    assert np.array_equal(
        halves.view(np.float16), words.view(np.float32).astype(np.float16)
    )
    assert np.array_equal(floats.cast(floats.cast(halves, 2, 1), 1, 2), halves)


def test_a_factor_must_be_above_zero() -> None:
    words = np.arange(4, dtype="<u4")
    op = Op(Method.SCALED, 4, 0, 16, 0, bytes([1, 4, 4, 1]))
    side = Side(np.ones(1, np.uint16), np.array([-16], np.int32))
    with pytest.raises(ValueError, match="factor"):
        predict(Piece(op, read_groups(op), 0, 4, words), side)


def test_a_prediction_is_one_multiplication() -> None:
    old = np.array([1.0, -2.5, 3.1415927, 1e-3], np.float32)
    factors = np.full(4, 1.0009765625, np.float32)
    found, _ = floats.scale(old.view(np.uint32), factors, 1)
    assert np.array_equal(found.view(np.float32), old * factors)
    halves = old.astype(np.float16)
    found, _ = floats.scale(halves.view(np.uint16), factors, 2)
    expected = (halves.astype(np.float32) * factors).astype(np.float16)  # no ties here
    assert np.array_equal(found.view(np.float16), expected)
