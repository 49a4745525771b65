"""Two pages: what was written last is read, and damage costs at most the newest value."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError, UsageError
from modelfleet_agent.journal import HEAD, Pages

SIZE = 256


def pages(tmp_path: Path) -> Pages:
    return Pages(tmp_path / "journal", size=SIZE)


def test_nothing_was_written_yet(tmp_path: Path) -> None:
    assert pages(tmp_path).read() is None


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_newest_value_is_read_after_a_restart(tmp_path: Path, count: int) -> None:
    journal = pages(tmp_path)
    for number in range(count):
        journal.write(b"value %d" % number)
    assert pages(tmp_path).read() == b"value %d" % (count - 1)


def test_a_value_that_does_not_fit_is_refused_and_the_one_before_holds(
    tmp_path: Path,
) -> None:
    journal = pages(tmp_path)
    journal.write(b"old")
    with pytest.raises(UsageError, match="E_TOO_LARGE"):
        journal.write(bytes(SIZE - HEAD.size + 1))
    assert journal.read() == b"old"


@settings(max_examples=150, deadline=None)
@given(
    bodies=st.lists(st.binary(max_size=SIZE - HEAD.size), min_size=2, max_size=5),
    place=st.integers(0, 2 * SIZE * 8 - 1),
)
def test_one_flipped_bit_costs_at_most_the_newest_value(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes], place: int
) -> None:
    journal = Pages(tmp_path_factory.mktemp("rot") / "journal", size=SIZE)
    for body in bodies:
        journal.write(body)
    data = bytearray(journal.path.read_bytes())
    data[place // 8] ^= 1 << place % 8
    journal.path.write_bytes(data)
    assert journal.read() in bodies[-2:]
    journal.write(b"next")
    assert journal.read() == b"next"


@settings(max_examples=100, deadline=None)
@given(length=st.integers(0, 2 * SIZE))
def test_a_file_cut_anywhere_still_takes_the_next_value(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    journal = Pages(tmp_path_factory.mktemp("cut") / "journal", size=SIZE)
    journal.write(b"one")
    journal.write(b"two")
    with journal.path.open("r+b") as file:
        file.truncate(length)
    assert journal.read() in {None, b"one", b"two"}
    journal.write(b"three")
    assert Pages(journal.path, size=SIZE).read() == b"three"


def test_a_torn_write_leaves_the_value_before(tmp_path: Path) -> None:
    journal = pages(tmp_path)
    journal.write(b"one")
    journal.write(b"two")
    whole = journal.path.read_bytes()
    journal.write(b"three")
    torn = journal.path.read_bytes()[: HEAD.size + 2] + whole[HEAD.size + 2 :]
    journal.path.write_bytes(torn)
    assert journal.read() == b"two"
    assert journal.damaged == 1


def test_a_failed_write_leaves_the_value_before(tmp_path: Path) -> None:
    journal = pages(tmp_path)
    journal.write(b"one")

    def fail(operation: str, path: Path) -> None:
        raise RetryableError("E_DISK", f"{operation} {path}")

    stop = fsio.watch(fail)
    with pytest.raises(RetryableError):
        journal.write(b"two")
    stop()
    assert journal.read() == b"one"


def test_it_grows_no_more_once_it_is_there(tmp_path: Path) -> None:
    journal = pages(tmp_path)
    journal.write(b"")
    before = journal.path.stat().st_size
    for _ in range(5):
        journal.write(bytes(SIZE - HEAD.size))
    assert journal.path.stat().st_size == before == 2 * SIZE
