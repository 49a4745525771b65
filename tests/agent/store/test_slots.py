"""Which release boots: always a whole one, whenever the power is cut."""

from pathlib import Path

import pytest
from tests.agent.store.conftest import MakeRecord

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.store import Slots, Store


class PowerCutError(Exception):
    """Stops at a kill point."""


def test_a_new_release_makes_the_old_one_previous(slots: Slots, make: MakeRecord) -> None:
    one, two = make("1.0.0"), make("2.0.0")
    assert slots.current("detector") is None
    slots.advance("detector", one)
    assert (slots.current("detector"), slots.previous("detector")) == (one, None)
    slots.advance("detector", two)
    assert (slots.current("detector"), slots.previous("detector")) == (two, one)
    assert slots.names() == ["detector"]


def test_advancing_twice_keeps_the_previous_release(slots: Slots, make: MakeRecord) -> None:
    one, two = make("1.0.0"), make("2.0.0")
    for record in (one, two, two):
        slots.advance("detector", record)
    assert slots.previous("detector") == one


def test_restoring_boots_the_previous_release(slots: Slots, make: MakeRecord) -> None:
    one, two = make("1.0.0"), make("2.0.0")
    slots.advance("detector", one)
    with pytest.raises(RetryableError, match="E_NO_PREVIOUS"):
        slots.restore("detector")
    slots.advance("detector", two)
    assert slots.restore("detector") == one
    assert slots.restore("detector") == one
    assert slots.current("detector") == one


def test_the_links_are_relative_and_lead_to_the_record(
    store: Store, slots: Slots, make: MakeRecord
) -> None:
    record = make("1.0.0")
    slots.advance("detector", record)
    link = slots.root / "detector" / "current"
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == store.record_path(record.key)


@pytest.mark.parametrize("cut", range(8))
def test_a_power_cut_while_advancing_boots_old_or_new(
    slots: Slots, make: MakeRecord, cut: int
) -> None:
    one, two, three = make("1.0.0"), make("2.0.0"), make("3.0.0")
    slots.advance("detector", one)
    slots.advance("detector", two)
    count = 0

    def kill(_operation: str, _path: Path) -> None:
        nonlocal count
        count += 1
        if count > cut:
            raise PowerCutError

    unwatch = fsio.watch(kill)
    try:
        slots.advance("detector", three)
    except PowerCutError:
        assert slots.current("detector") in (two, three)
    finally:
        unwatch()
    slots.advance("detector", three)  # what the journal says is done again
    assert (slots.current("detector"), slots.previous("detector")) == (three, two)


def test_a_damaged_record_is_an_error_and_not_another_release(
    store: Store, slots: Slots, make: MakeRecord
) -> None:
    record = make("1.0.0")
    slots.advance("detector", record)
    path = store.record_path(record.key)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RetryableError, match="E_RECORD"):
        slots.current("detector")
    store.put(record)
    assert slots.current("detector") == record
    fsio.remove(path)
    with pytest.raises(RetryableError, match="E_RECORD"):
        slots.current("detector")


def test_a_removed_slot_boots_nothing(slots: Slots, make: MakeRecord) -> None:
    slots.advance("detector", make("1.0.0"))
    slots.remove("detector")
    slots.remove("detector")
    assert slots.current("detector") is None
    assert slots.names() == []
