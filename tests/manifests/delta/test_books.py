import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.manifests.delta.models import fine_tune, make_model, make_weights
from tests.manifests.delta.patching import round_trip

from modelfleet_manifests.delta import contexts
from modelfleet_manifests.delta.books import (
    MAX_BOOKS,
    PAIRS,
    SINGLE,
    BookReader,
    encode_books,
    list_books,
)
from modelfleet_manifests.delta.symbols import ALPHABET

SEEDS = st.integers(0, 2**32 - 1)


def draw_block(
    seed: int, size: int, mean: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return (contexts, symbols) of a block whose symbols follow their contexts."""
    generator = np.random.default_rng(seed)
    context = generator.integers(0, contexts.CONTEXTS, size).astype(np.uint8)
    sizes = generator.geometric(1 / (1 + mean * (1 + context % 3)), size) - 1
    return context, np.minimum(sizes, 62).astype(np.uint8)


def encode_block(context: NDArray[np.uint8], symbols: NDArray[np.uint8]) -> bytes:
    codes = context.astype(np.int64) * ALPHABET + symbols
    counts = np.bincount(codes, minlength=contexts.CONTEXTS * ALPHABET)
    return encode_books(list_books(counts.reshape(-1, ALPHABET)), context, symbols)


@given(SEEDS, st.integers(1, 5000), st.floats(0, 20))
@settings(max_examples=80, deadline=None)
def test_symbols_come_back_from_books_some_at_a_time(
    seed: int, size: int, mean: float
) -> None:
    context, symbols = draw_block(seed, size, mean)
    data = encode_block(context, symbols)
    reader = BookReader(memoryview(data), size)
    cut = size // 3
    found = np.concatenate([reader.take(context[:cut]), reader.take(context[cut:])])
    reader.finish()
    assert reader.end == len(data)
    assert np.array_equal(found, symbols)


@given(SEEDS, st.floats(0.5, 20))
@settings(max_examples=20, deadline=None)
def test_where_time_counts_there_are_fewer_books_at_little_cost(
    seed: int, mean: float
) -> None:
    context, symbols = draw_block(seed, 1 << 18, mean)
    codes = context.astype(np.int64) * ALPHABET + symbols
    counts = np.bincount(codes, minlength=contexts.CONTEXTS * ALPHABET)
    counts = counts.reshape(-1, ALPHABET)
    most, few = list_books(counts), list_books(counts, quick=True)
    assert few.total <= most.total
    sizes = [len(encode_books(books, context, symbols)) for books in (most, few)]
    assert sizes[1] <= 1.02 * sizes[0]


@pytest.mark.parametrize(("mean", "mode"), [(0.2, PAIRS), (9.0, SINGLE)])
def test_small_symbols_go_in_pairs(mean: float, mode: int) -> None:
    context, symbols = draw_block(1, 50_000, mean)
    data = encode_block(context, symbols)
    counts = np.bincount(symbols)
    counts = counts[counts > 0]
    entropy = float(-(counts * np.log2(counts / symbols.size)).sum()) / 8
    start = 3 + int(data[1]) + 1
    assert data[start] == mode
    assert len(data) < entropy * 1.06 + 500


def test_books_are_few() -> None:
    counts = np.random.default_rng(1).integers(0, 10**6, (contexts.CONTEXTS, ALPHABET))
    assert list_books(counts).total <= MAX_BOOKS


@given(st.binary(max_size=200), st.integers(0, 50))
@settings(max_examples=300, deadline=None)
def test_a_reader_fed_with_noise_ends_in_one_error(data: bytes, size: int) -> None:
    try:
        reader = BookReader(memoryview(data), size)
        assert reader.take(np.full(size, 12, np.uint8)).max(initial=0) < ALPHABET
        reader.finish()
    except ValueError:
        return


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dense_floats_go_in_books_near_their_entropy(dtype: str) -> None:
    old = make_weights(1, dtype, (600, 500))
    before, after = make_model({"w": old}), make_model({"w": fine_tune(old, 2, 1e-3)})
    patch = round_trip(before, after)
    # the residual is normal with a standard deviation of 1e-3: its entropy over the steps
    # of each number is the least there is
    with np.errstate(divide="ignore"):
        powers = np.floor(np.log2(np.abs(old.astype(np.float64))))
    steps = 2.0 ** (np.maximum(powers, -14) - (23 if dtype == "float32" else 10))
    bits = np.log2(1e-3 * np.sqrt(2 * np.pi * np.e) / steps)
    assert len(patch) < np.maximum(bits, 0).sum() / 8 * 1.04
