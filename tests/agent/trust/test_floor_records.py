"""The two records of the floors: durable, and what follows from them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.solo_device import EnrolledDevice

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.trust import floors as rules
from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.memory import NAMES, load_floors, save_floors


def test_a_full_disk_leaves_the_newest_record(tmp_path: Path) -> None:
    save_floors(tmp_path, Floors(fleet="f" * 64, root=1))

    def full(operation: str, path: Path) -> None:
        if operation == "write":
            raise OSError(28, "full")

    stop = fsio.watch(full)
    try:
        with pytest.raises((RetryableError, OSError)):
            save_floors(tmp_path, Floors(fleet="f" * 64, root=2))
    finally:
        stop()
    held = load_floors(tmp_path, "f" * 64)
    assert held is not None
    assert held.root == 1


def test_saving_the_same_again_writes_nothing(tmp_path: Path) -> None:
    floors = Floors(fleet="f" * 64, root=1)
    save_floors(tmp_path, floors)
    written: list[Path] = []
    stop = fsio.watch(lambda _operation, path: written.append(path))
    save_floors(tmp_path, floors)
    stop()
    assert written == []


@pytest.mark.parametrize("which", NAMES)
@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 200, None])
def test_a_damaged_record_is_written_again_from_the_other_one(
    device: EnrolledDevice, which: str, damage: bytes | None
) -> None:
    for name in "abc":
        device.fleet.stop(name * 64)
        device.fleet.publish()
        device.refresh()
    path = device.directory / which
    other = device.directory / next(name for name in NAMES if name != which)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    (told,) = device.door().mend()
    assert told.code == "E_FLOORS"
    assert which in told.what
    assert path.read_bytes() == other.read_bytes()
    other.unlink()
    assert load_floors(device.directory, device.me.fleet) is not None
    assert device.door().mend() != []


def test_records_that_are_whole_are_left_alone(device: EnrolledDevice) -> None:
    assert device.door().mend() == []
    device.refresh()
    assert device.door().mend() == []  # there was one only
    before = [(device.directory / name).read_bytes() for name in NAMES]
    assert device.door().mend() == []
    assert [(device.directory / name).read_bytes() for name in NAMES] == before


def test_both_records_lost_are_told(device: EnrolledDevice) -> None:
    device.refresh()
    for name in NAMES:
        (device.directory / name).unlink(missing_ok=True)
    (told,) = device.door().mend()
    assert "both" in told.what


keys = st.frozensets(st.sampled_from("abcd"), min_size=1)
versions = st.integers(0, 50)


@given(st.lists(st.tuples(versions, keys), max_size=8))
def test_a_floor_never_falls_while_its_keys_stay(
    steps: list[tuple[int, frozenset[str]]],
) -> None:
    floors = Floors(fleet="f")
    for version, now in steps:
        before = floors.seen.get("targets")
        lowest = rules.below_keys(floors, "targets", now)
        if before is not None and set(before.keys) <= now:
            assert lowest == before.version
        else:
            assert lowest == 0
        floors = rules.see(floors, "targets", version, now)
        assert floors.seen["targets"].version == max(version, lowest)


@given(
    st.lists(st.tuples(st.sampled_from(["", "1.0.0", "1.5.0", "2.0.0"]), st.integers(1, 5)))
)
def test_an_older_role_never_lowers_a_version_floor(steps: list[tuple[str, int]]) -> None:
    floors = Floors(fleet="f")
    for floor, role in steps:
        held = floors.models.get("m/d")
        floors = rules.raise_model(floors, "m/d", floor, role)
        if held is not None and role <= held.role:
            assert floors.models["m/d"].floor >= held.floor
