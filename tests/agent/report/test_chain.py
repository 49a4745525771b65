"""The chain's own file, damaged."""

from pathlib import Path

import pytest

from modelfleet_agent.report.chain import NAME, Chain

DIGEST = "ab" * 32


def test_a_chain_goes_on_where_it_stopped(tmp_path: Path) -> None:
    Chain(tmp_path, 1).advance(DIGEST)
    again = Chain(tmp_path, 1)
    assert (again.place.seq, again.place.prev, again.lost) == (2, DIGEST, False)


def test_another_incarnation_begins_a_chain_of_its_own(tmp_path: Path) -> None:
    Chain(tmp_path, 1).advance(DIGEST)
    assert Chain(tmp_path, 2).place.seq == 1


@pytest.mark.parametrize("place", range(0, 150, 7))
def test_a_flipped_bit_is_never_believed(tmp_path: Path, place: int) -> None:
    Chain(tmp_path, 1).advance(DIGEST)
    path = tmp_path / NAME
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1
    path.write_bytes(data)
    found = Chain(tmp_path, 1)
    assert found.lost
    assert found.place.seq == 1
