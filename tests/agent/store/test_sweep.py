"""What is removed, and what never is."""

from pathlib import Path

from tests.agent.store.conftest import MakeRecord

from modelfleet_agent.store import Record, Slots, Store, sweep


def held(store: Store) -> set[str]:
    return {record.version for record in store.records() if not store.missing(record)}


def test_current_and_previous_stay_whatever_the_budget(
    store: Store, slots: Slots, make: MakeRecord
) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        slots.advance("detector", make(version))
    swept = sweep(store, slots, budget=0)
    assert held(store) == {"2.0.0", "3.0.0"}
    assert swept.removed == 1
    assert swept.freed == len("model 1.0.0")


def test_releases_worth_keeping_stay_in_their_order_up_to_the_budget(
    store: Store, slots: Slots, make: MakeRecord
) -> None:
    records: list[Record] = [make(v, v.encode() * 100) for v in ("1.0.0", "2.0.0", "3.0.0")]
    slots.advance("detector", make("4.0.0", b"4" * 500))
    sweep(store, slots, budget=1600, keep=records[::-1])
    assert held(store) == {"4.0.0", "3.0.0", "2.0.0"}


def test_files_that_are_worked_on_stay(
    store: Store, slots: Slots, make: MakeRecord
) -> None:
    record = make("1.0.0", b"graph", b"weights")
    busy = record.files[0].digest
    paths = [Path(file.path) for file in store.place(record).files]
    half = store.partials / f".tmp-{'a' * 64}"
    half.write_bytes(b"being patched")
    store.incoming("a" * 64).write_bytes(b"part")
    store.incoming("b" * 64).write_bytes(b"part")
    sweep(store, slots, budget=0, busy=[busy, "a" * 64])
    assert store.missing(record) == []
    assert all(path.exists() for path in (*paths, half))
    assert store.incoming("a" * 64).exists()
    assert not store.incoming("b" * 64).exists()


def test_nothing_goes_while_a_record_of_a_slot_is_damaged(
    store: Store, slots: Slots, make: MakeRecord
) -> None:
    one = make("1.0.0")
    slots.advance("detector", one)
    make("2.0.0")
    path = store.record_path(one.key)
    path.chmod(0o600)
    path.write_bytes(b"rotten")
    assert sweep(store, slots, budget=0).removed == 0
    assert store.has(one.files[0])


def test_links_of_a_removed_model_go_with_it(
    store: Store, slots: Slots, make: MakeRecord
) -> None:
    record = make("1.0.0", b"graph", b"weights")
    store.place(record)
    sweep(store, slots, budget=0)
    assert list(store.releases.iterdir()) == []
    assert list(store.files.iterdir()) == []
