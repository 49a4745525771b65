"""What a slot remembers: it survives a restart, and failures are waited for."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from modelfleet_agent.journal import Pages
from modelfleet_agent.store import FileEntry, Record
from modelfleet_agent.update.state import (
    MAX_BEGUN,
    MAX_QUARANTINED,
    MAX_RELEASES,
    PAGE,
    Failure,
    SlotState,
    StateFile,
    quarantine,
)

DIGEST = "d" * 64
FAILED = Failure("s" * 32, DIGEST, "E_ANSWER", "wrong")


def draw() -> float:
    return 0.0


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    state = quarantine(SlotState().begin("1" * 32).prove("2" * 64), FAILED, 5, draw)
    StateFile(tmp_path, "main").save(state)
    assert StateFile(tmp_path, "main").state == state


def test_a_failure_is_quarantined_for_its_step_and_variant_and_not_for_ever() -> None:
    state = quarantine(SlotState(), FAILED, 1000, draw)
    until = state.quarantine[0].until
    assert state.quarantined(1000) == {("s" * 32, DIGEST)}
    assert state.quarantined(until - 1) == {("s" * 32, DIGEST)}
    assert state.quarantined(until) == frozenset()


def test_each_failure_in_a_row_is_waited_for_longer() -> None:
    state, waits = SlotState(), []
    for now in (0, 10**9, 2 * 10**9):
        state = quarantine(state, FAILED, now, draw)
        waits.append(state.quarantine[0].until - now)
    assert waits == sorted(set(waits))
    assert state.failures("s" * 32, DIGEST) == 3


def test_another_step_may_try_the_same_variant_at_once() -> None:
    state = quarantine(SlotState(), FAILED, 1000, draw)
    assert ("t" * 32, DIGEST) not in state.quarantined(1000)
    assert state.failures("t" * 32, DIGEST) == 0


def test_success_forgives_the_variant() -> None:
    assert quarantine(SlotState(), FAILED, 0, draw).clear(DIGEST).quarantine == ()


def test_a_clock_that_was_set_back_ends_a_quarantine_rather_than_prolong_it() -> None:
    assert quarantine(SlotState(), FAILED, 10**12, draw).quarantined(5) == frozenset()


def test_the_fullest_memory_fits_its_file(tmp_path: Path) -> None:
    files = tuple(FileEntry(f"{n:0127}", f"{n:064x}", 2**53) for n in range(16))
    record = Record(
        release="f" * 64, model="m" * 127, version="9" * 64, profile="p" * 63, files=files
    )
    state = SlotState(current=record, variant="v" * 63, step="s" * 32)
    for number in range(MAX_RELEASES + 1):
        state = state.begin(f"{number:032x}").prove(f"{number:064x}")
        failed = Failure(f"{number:032x}", DIGEST, "E" * 30, "\U0001f4a5" * 999)
        state = quarantine(state, failed, 10**12, draw)
    StateFile(tmp_path, "main").save(state)
    assert StateFile(tmp_path, "main").state == state


def test_a_memory_of_another_version_does_not_keep_the_device_from_booting(
    tmp_path: Path,
) -> None:
    Pages(tmp_path / "main", size=PAGE).write(b'{"begun": 7}')
    assert StateFile(tmp_path, "main").state == SlotState()


@given(st.lists(st.integers(0, 300), max_size=400))
def test_the_memory_stays_small_and_keeps_the_newest(steps: list[int]) -> None:
    state = SlotState()
    for one in steps:
        state = state.begin(f"{one:032x}")
        state = quarantine(state, Failure(f"{one:032x}", DIGEST, "E", ""), 0, draw)
    assert len(state.begun) <= MAX_BEGUN
    assert len(state.quarantine) <= MAX_QUARANTINED
    assert not steps or state.begun[-1] == f"{steps[-1]:032x}"
