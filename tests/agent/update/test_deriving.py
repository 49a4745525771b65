"""Files that the device makes of a release: made before the swap, dropped on mismatch."""

from pathlib import Path

import msgspec
import pytest
from tests.agent import models
from tests.agent.update.conftest import SLOT, Bench, goal, offer

from modelfleet_agent import fsio
from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime.providers import CUDA, TENSORRT
from modelfleet_agent.store import Record
from modelfleet_agent.store.derived import DerivedFiles
from modelfleet_agent.store.sweep import sweep
from modelfleet_agent.update.deriving import Deriver
from modelfleet_manifests.profiles import Facts

DATA = models.wide(width=2048)


@pytest.fixture
def maker(bench: Bench) -> Bench:
    """A device whose operator wants graphs prepared."""
    made = Bench(bench.dir, bench.server, bench.runtime, prepares=True)
    bench.engine = made.engine  # closed with the other one
    return made


@pytest.fixture
def record(maker: Bench) -> Record:
    return offer(maker.files, "1.0.0", DATA)


def derived(bench: Bench, record: Record) -> Path:
    assert bench.deriver
    placed = bench.deriver.place(record)
    assert placed.derived is not None
    return Path(placed.derived.path)


def spoil(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_graph_is_made_before_the_swap_tested_and_loaded(
    maker: Bench, record: Record
) -> None:
    maker.bring(goal(record))
    assert maker.engine.failure is None
    path = derived(maker, record)
    assert path.read_bytes() != DATA
    assert path.stat().st_mode & 0o222 == 0
    loaded = maker.runtime.load(SLOT, maker.deriver.place(record))  # type: ignore[union-attr]
    assert loaded.resident  # it is what serves
    assert maker.runtime.verify(SLOT).intact
    assert maker.serves() == record.digest  # what is reported is what was signed
    assert not maker.notices


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": "onnxruntime 2"},
        {"runtime": "onnxruntime 1", "agent": "another", "disk_free_mb": 3},
    ],
)
def test_it_is_stale_exactly_where_what_decides_it_changed(
    maker: Bench, record: Record, change: dict[str, object]
) -> None:
    maker.bring(goal(record))
    assert maker.deriver
    assert not maker.deriver.is_stale(record)
    maker.facts = msgspec.structs.replace(maker.facts, **change)
    assert maker.deriver.is_stale(record) == (change["runtime"] == "onnxruntime 2")


@pytest.mark.slow
def test_after_an_upgrade_it_is_made_again_beside_what_serves(
    maker: Bench, record: Record
) -> None:
    maker.bring(goal(record))
    before = derived(maker, record).stat().st_ino
    maker.facts = Facts(runtime="onnxruntime 2")
    assert maker.engine.serve(record)  # a boot serves without it
    assert maker.deriver
    assert maker.deriver.place(record).derived is None
    maker.bring(goal(record, step=None, repair=True, trial_ms=0))
    assert derived(maker, record).stat().st_ino != before
    assert not maker.deriver.is_stale(record)
    assert maker.runtime.load(SLOT, maker.deriver.place(record)).resident


@pytest.mark.slow
def test_an_altered_one_is_bit_rot_and_made_again(maker: Bench, record: Record) -> None:
    maker.bring(goal(record))
    spoil(derived(maker, record))
    assert not maker.runtime.verify(SLOT).intact
    maker.bring(goal(record, step=None, repair=True, trial_ms=0))
    assert maker.engine.failure is None
    assert maker.runtime.verify(SLOT).intact


@pytest.mark.slow
def test_a_boot_with_an_altered_one_serves_the_release_itself(
    maker: Bench, record: Record
) -> None:
    maker.bring(goal(record))
    spoil(derived(maker, record))
    maker.runtime.unload(SLOT)
    assert maker.engine.serve(record)
    assert maker.runtime.verify(SLOT).intact
    assert [one.code for one in maker.notices] == ["E_DERIVED"]
    assert maker.deriver
    assert maker.deriver.is_stale(record)


def test_a_note_that_rotted_is_not_believed(maker: Bench, record: Record) -> None:
    maker.bring(goal(record))
    assert maker.deriver
    note = DerivedFiles(maker.store).path(record, "made.json")
    whole = note.read_bytes()
    for place in range(0, len(whole), 11):
        data = bytearray(whole)
        data[place] ^= 1
        note.write_bytes(data)
        assert maker.deriver.is_stale(record), place


class PowerCutError(Exception):
    """The power went away."""


@pytest.mark.slow
def test_a_power_cut_while_it_is_made_leaves_nothing_that_counts(
    maker: Bench, record: Record
) -> None:
    for file in record.wanted:
        models.put(maker.store, file.name, maker.files.blobs[file.digest])
    cut, whole = 0, False
    while not whole:
        assert maker.deriver
        maker.deriver.drop(record)
        left = cut

        def count(_operation: str, _path: Path) -> None:
            nonlocal left
            if left == 0:
                raise PowerCutError
            left -= 1

        stop = fsio.watch(count)
        try:
            maker.deriver.prepare(record, maker.notices.append)
            whole = True
        except PowerCutError:
            whole = False
        finally:
            stop()
        again = Deriver(maker.store, facts=lambda: maker.facts, prepares=True)
        placed = again.place(record)
        if placed.derived is not None:
            found = fsio.hash_file(Path(placed.derived.path))
            assert found == (placed.derived.digest, placed.derived.length)
        cut += 1
    assert cut > 8  # every change of the disk was tried


def test_where_it_cannot_be_made_the_release_runs_without_it(
    maker: Bench, record: Record
) -> None:
    engine = msgspec.structs.replace(record, providers=(TENSORRT, CUDA))
    for file in engine.wanted:
        models.put(maker.store, file.name, maker.files.blobs[file.digest])
    assert maker.deriver
    placed = maker.deriver.prepare(engine, maker.notices.append)
    assert placed.derived is None
    assert [one.code for one in maker.notices] == ["E_DERIVE"]
    maker.deriver.prepare(engine, maker.notices.append)
    assert len(maker.notices) == 1  # not tried again before the next start
    assert not maker.deriver.is_stale(engine)


def test_it_goes_with_its_release(maker: Bench, record: Record) -> None:
    maker.bring(goal(record))
    path = derived(maker, record)
    sweep(maker.store, maker.slots, budget=0)
    assert path.exists()
    maker.slots.remove(SLOT)
    sweep(maker.store, maker.slots, budget=0)
    assert not path.parent.parent.exists()


def test_without_the_operators_wish_nothing_is_made(bench: Bench) -> None:
    record = offer(bench.files, "1.0.0", DATA)
    bench.bring(goal(record))
    assert bench.engine.failure is None
    assert not DerivedFiles(bench.store).path(record).exists()


def test_nothing_is_made_of_files_that_were_altered(maker: Bench, record: Record) -> None:
    for file in record.wanted:
        models.put(maker.store, file.name, maker.files.blobs[file.digest])
    spoil(maker.store.path_of(record.files[0].digest))
    assert maker.deriver
    placed = maker.deriver.prepare(record, maker.notices.append)
    assert placed.derived is None
    assert "E_DIGEST" in maker.notices[0].what
    assert isinstance(maker.notices[0], RefusedError | RetryableError)
