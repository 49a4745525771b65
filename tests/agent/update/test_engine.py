"""The engine of one slot, from nothing to serving, and back where something is wrong."""

import platform
import secrets

import pytest
from tests.agent import models
from tests.agent.update.conftest import SLOT, Bench, goal, offer
from tests.support.solo_http import Fault
from tests.support.waiting import eventually

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.store import Record
from modelfleet_agent.update.phases import Phase
from modelfleet_manifests import delta

STEP, NEXT = "a" * 32, "b" * 32


def first(bench: Bench) -> Record:
    """Let 1.0.0 serve."""
    record = offer(bench.files, "1.0.0", models.linear(1.0))
    bench.have(record, STEP)
    assert bench.serves() == record.digest
    return record


def offer_delta(bench: Bench, old: Record, new: Record) -> int:
    """Offer a patch between two records, made by the real encoder; return its length."""
    blobs = bench.files.blobs
    patch = delta.encode(blobs[old.digest], blobs[new.digest])
    bench.files.add_delta(new.digest, old.digest, patch)
    return len(patch)


def test_a_release_is_fetched_tested_tried_and_kept(bench: Bench) -> None:
    record = offer(bench.files, "1.0.0", models.linear(1.0))
    bench.bring(goal(record))
    assert bench.serves() == record.digest
    assert bench.phases == [
        Phase.FETCHING,
        Phase.PATCHING,
        Phase.TESTING,
        Phase.TRIAL,
        Phase.IDLE,
    ]
    assert bench.slots.current(SLOT) == record
    state = bench.engine.memory.state
    assert state.proven == (record.release,)
    assert state.begun == (STEP,)
    assert (state.method, state.bytes) == ("full", sum(f.length for f in record.wanted))


def test_an_update_comes_as_a_delta_where_that_is_fewer_bytes(bench: Bench) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    length = offer_delta(bench, old, new)
    bench.bring(goal(new, NEXT))
    assert bench.serves() == new.digest
    state = bench.engine.memory.state
    golden = new.golden.length if new.golden else 0
    assert length < new.length
    assert (state.method, state.bytes) == ("delta", length + golden)
    assert not list(bench.store.partials.iterdir())


def test_a_file_that_was_cut_to_nothing_is_written_again_by_the_delta(bench: Bench) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    offer_delta(bench, old, new)
    bench.store.path_of(new.digest).write_bytes(b"")
    bench.bring(goal(new, NEXT))
    assert bench.serves() == new.digest


def test_a_delta_that_is_larger_than_the_file_is_not_taken(bench: Bench) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.files.add_delta(new.digest, old.digest, secrets.token_bytes(new.length + 1))
    bench.bring(goal(new, NEXT))
    assert bench.engine.memory.state.method == "full"


def test_a_bad_delta_falls_back_to_the_whole_file_once_and_says_so(bench: Bench) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.files.add_delta(new.digest, old.digest, b"no patch at all")
    bench.bring(goal(new, NEXT))
    assert bench.serves() == new.digest
    assert [error.code for error in bench.notices] == ["E_DELTA"]
    assert bench.engine.memory.state.method == "full"
    wholes = [r for r in bench.server.requests if r.path.endswith(f"sha256/{new.digest}")]
    assert len(wholes) == 1


def test_a_failed_self_test_is_quarantined_and_the_old_release_serves_on(
    bench: Bench,
) -> None:
    old = first(bench)
    wrong = models.golden(models.linear(99.0))
    bad = offer(bench.files, "1.1.0", models.linear(2.0), wrong)
    bench.bring(goal(bad, NEXT))
    assert bench.serves() == old.digest
    assert bench.slots.current(SLOT) == old
    state = bench.engine.memory.state
    assert (NEXT, bad.digest) in state.quarantined(bench.tools.clock())
    assert state.begun == (STEP,)
    assert Phase.TRIAL not in bench.phases
    assert bench.engine.failure is not None


def test_a_failed_trial_is_restored_and_quarantined(bench: Bench) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.engine.start(goal(new, NEXT, trial_ms=60_000))
    eventually(lambda: bench.engine.place.serving == new, "the trial begins")
    ready = bench.runtime.ready
    assert ready is not None
    bench.runtime.stop()  # as if the new model had killed it
    bench.settle()
    assert Phase.RESTORING in bench.phases
    assert bench.serves() == old.digest
    assert bench.slots.current(SLOT) == old
    state = bench.engine.memory.state
    assert state.quarantine[0].code == "E_TRIAL_CRASH"
    assert state.begun == (STEP, NEXT)
    assert new.release not in state.proven


def test_what_ran_before_comes_back_without_a_download(bench: Bench) -> None:
    old = first(bench)
    bench.bring(goal(offer(bench.files, "1.1.0", models.linear(2.0)), NEXT))
    bench.server.requests.clear()
    bench.bring(goal(old, "c" * 32))
    assert bench.serves() == old.digest
    assert bench.server.requests == []
    assert bench.phases == [Phase.TRIAL, Phase.IDLE]


def test_what_is_not_wanted_any_more_is_cancelled_and_leaves_the_old_one(
    bench: Bench,
) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.engine.start(goal(new, NEXT, trial_ms=60_000))
    eventually(lambda: bench.engine.place.serving == new, "the trial begins")
    bench.engine.cancel()
    bench.settle()
    assert bench.serves() == old.digest
    assert bench.engine.memory.state.quarantine == ()
    assert bench.engine.failure is None


def test_a_network_that_fails_is_waited_for_and_nothing_is_quarantined(
    bench: Bench,
) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    path = f"/blobs/sha256/{new.digest}"
    bench.server.break_next(path, *[Fault(status=503)] * 8)
    wanted = goal(new, NEXT)
    bench.bring(wanted)
    assert bench.serves() == old.digest
    assert isinstance(bench.engine.failure, RetryableError)
    assert bench.engine.memory.state.quarantine == ()
    bench.server.break_next(path)
    bench.server._faults.clear()
    bench.bring(wanted)
    assert bench.serves() == new.digest
    assert bench.engine.failure is None


def test_another_file_than_was_signed_is_never_loaded(bench: Bench) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.files.blobs[new.digest] = models.linear(3.0)
    bench.bring(goal(new, NEXT))
    assert bench.serves() == old.digest
    assert bench.engine.memory.state.quarantine[0].code == "E_DIGEST"
    assert not bench.store.path_of(new.digest).exists()


def test_a_full_disk_during_a_download_keeps_the_old_release(bench: Bench) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))

    def full(operation: str, path: object) -> None:
        if operation == "write" and "incoming" in str(path):
            raise RetryableError("E_NO_SPACE", f"cannot write {path}")

    stop = fsio.watch(full)
    wanted = goal(new, NEXT)
    bench.bring(wanted)
    stop()
    assert bench.serves() == old.digest
    assert bench.engine.failure is not None
    assert bench.engine.failure.code == "E_NO_SPACE"
    bench.bring(wanted)
    assert bench.serves() == new.digest


def test_a_rotten_file_is_fetched_again_and_served_from_the_new_one(bench: Bench) -> None:
    record = first(bench)
    path = bench.store.path_of(record.digest)
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert not bench.runtime.verify(SLOT).intact
    bench.bring(goal(record, repair=True, step=None))
    found = bench.runtime.verify(SLOT)
    assert found.intact
    assert bench.serves() == record.digest


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only there it traps")
def test_rot_that_kills_the_child_as_it_loads_is_known_as_rot(bench: Bench) -> None:
    record = offer(bench.files, "1.0.0", models.trapping(1))
    bench.have(record, STEP)
    path = bench.store.path_of(record.digest)
    path.chmod(0o600)
    path.write_bytes(models.trapping(-1))
    assert not bench.engine.serve(record)
    assert [one.code for one in bench.notices] == ["E_RUNTIME_GONE", "E_DIGEST"]


def test_a_rotten_previous_release_is_found_as_it_comes_back_and_fetched(
    bench: Bench,
) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.bring(goal(new, NEXT))
    path = bench.store.path_of(old.digest)
    path.chmod(0o600)
    path.write_bytes(b"x" * old.length)
    bench.bring(goal(old, "c" * 32))
    assert bench.serves() == new.digest
    assert bench.engine.memory.state.quarantine == ()
    bench.bring(goal(old, "c" * 32))
    assert bench.serves() == old.digest


def test_a_removed_slot_serves_nothing_and_remembers_what_it_proved(bench: Bench) -> None:
    record = first(bench)
    bench.engine.remove()
    bench.settle()
    assert bench.serves() == ""
    assert bench.slots.current(SLOT) is None
    assert bench.engine.memory.state.proven == (record.release,)


def test_a_stopped_release_is_not_restored(bench: Bench) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.engine.start(goal(new, NEXT, trial_ms=60_000))
    eventually(lambda: bench.engine.place.serving == new, "the trial begins")
    bench.stopped.add(old.release)
    bench.engine.cancel()
    bench.settle()
    assert bench.serves() == ""


@pytest.mark.parametrize("phase", [Phase.PATCHING, Phase.TESTING, Phase.TRIAL])
def test_a_phase_that_takes_the_agent_down_again_and_again_is_given_up(
    bench: Bench, phase: Phase
) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    for file in new.wanted:
        models.put(bench.store, file.name, bench.files.blobs[file.digest])
    entry = type(bench.engine.entry)(phase=phase, goal=goal(new, NEXT), tries=3)
    bench.engine._write(entry)
    bench.open().resume()
    bench.settle()
    assert bench.serves() == old.digest
    assert bench.engine.memory.state.quarantine[0].code == "E_REPEATED"


@pytest.mark.parametrize(
    ("phase", "ends_with"),
    [
        (Phase.FETCHING, "new"),
        (Phase.PATCHING, "new"),
        (Phase.TESTING, "new"),
        (Phase.TRIAL, "new"),
        (Phase.RESTORING, "old"),
        (Phase.REMOVING, ""),
    ],
)
def test_what_the_journal_says_is_gone_on_with_after_a_power_cut(
    bench: Bench, phase: Phase, ends_with: str
) -> None:
    old = first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    if phase is not Phase.FETCHING:
        for file in new.wanted:
            models.put(bench.store, file.name, bench.files.blobs[file.digest])
    bench.engine._write(type(bench.engine.entry)(phase=phase, goal=goal(new, NEXT)))
    bench.runtime.stop()
    bench.runtime.start()  # the child went with the power, too
    engine = bench.open()
    assert engine.serve(old)
    engine.resume()
    bench.settle()
    assert bench.serves() == {"new": new.digest, "old": old.digest, "": ""}[ends_with]
    assert engine.entry.phase is Phase.IDLE


def test_an_agent_that_is_asked_to_end_holds_nothing_against_the_release(
    bench: Bench,
) -> None:
    first(bench)
    new = offer(bench.files, "1.1.0", models.linear(2.0))
    bench.engine.start(goal(new, NEXT, trial_ms=60_000))
    for _ in range(5):
        eventually(lambda: bench.engine.place.serving == new, "the trial goes on")
        bench.engine.close(10)
        assert not bench.engine.busy
        bench.open().resume()
    assert bench.engine.memory.state.quarantine == ()
    bench.engine.close(10)
    assert bench.engine.entry.phase is Phase.TRIAL
