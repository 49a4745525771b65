"""Metadata that travels packed: the same bytes, and no bomb."""

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_agent.trust.checks import StrictError
from modelfleet_agent.trust.shell import BLOCK, unpack


@given(st.binary(max_size=300), st.integers(1, 50))
def test_what_was_packed_comes_out(data: bytes, size: int) -> None:
    packed = gzip.compress(data * 40)
    blocks = (packed[at : at + size] for at in range(0, len(packed), size))
    assert b"".join(unpack(blocks, "x")) == data * 40


def test_a_bomb_comes_out_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(100 << 20))
    taken = 0
    for piece in unpack(iter([bomb]), "x"):
        assert len(piece) <= BLOCK
        taken += len(piece)
        if taken > 1 << 20:  # the caller stops at the length that was signed
            return
    raise AssertionError("it ended")


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"{}",
        gzip.compress(b"data")[:-9],
        gzip.compress(b"data")[:-1],
        gzip.compress(b"data") + b"more",
        zlib.compress(b"data"),
    ],
    ids=["nothing", "plain", "cut", "no-end", "more", "zlib"],
)
def test_a_stream_that_is_not_whole_is_refused(packed: bytes) -> None:
    with pytest.raises(StrictError):
        list(unpack(iter([packed]), "x"))
