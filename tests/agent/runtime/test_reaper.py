"""When the memory of what is out of service is given back."""

import ctypes
from collections.abc import Iterator

import pytest
from tests.support.waiting import eventually

from modelfleet_agent.runtime.reaper import Reaper
from modelfleet_agent.runtime.serving import resident_kib

BLOCK = 64 << 10  # below what the C library maps on its own
COUNT = 1_000
FREED_KIB = BLOCK * COUNT // 1024


@pytest.fixture
def freed() -> Iterator[int]:
    """64 MB of the heap, freed below a block that is in use; the memory then held."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    *blocks, last = [libc.malloc(BLOCK) for _ in range(COUNT + 1)]
    for one in blocks:
        ctypes.memset(one, 1, BLOCK)
    for one in blocks:
        libc.free(one)
    yield resident_kib()
    libc.free(last)


def test_memory_is_given_back_at_once_where_nobody_asks(freed: int) -> None:
    Reaper().tidy()
    eventually(lambda: resident_kib() < freed - FREED_KIB // 2, "it is given back")


def test_memory_waits_until_nobody_asks(freed: int) -> None:
    held: list[int] = []
    quiet = False

    def is_quiet() -> bool:
        held.append(resident_kib())
        return quiet

    Reaper(is_quiet).tidy()
    eventually(lambda: len(held) > 1, "it looked again")
    assert min(held) > freed - FREED_KIB // 2
    quiet = True
    eventually(lambda: resident_kib() < freed - FREED_KIB // 2, "it is given back")


def test_who_waits_for_it_has_it_given_back(freed: int) -> None:
    reaper = Reaper(lambda: False)
    reaper.tidy()
    reaper.wait_until_done()
    assert resident_kib() < freed - FREED_KIB // 2
