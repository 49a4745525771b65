"""Which way a file comes: the fewest bytes, and what may follow a delta of no use."""

from dataclasses import replace

import pytest
from tests.agent import models
from tests.agent.update.conftest import Bench, goal, offer
from tests.support.solo_http import Fault

from modelfleet_agent.store import Record
from modelfleet_agent.update.policy import Fallback, may_fall_back
from modelfleet_manifests import delta
from modelfleet_manifests.digests import EMPTY

STEP, NEXT = "a" * 32, "b" * 32
BAD = b"no patch at all"


def pack(bench: Bench, record: Record) -> int:
    """Offer every file of a release packed; return the bytes of the model's patch."""
    lengths = []
    for file in record.wanted:
        patch = delta.encode(b"", bench.files.blobs[file.digest])
        bench.files.add_delta(file.digest, EMPTY, patch)
        lengths.append(len(patch))
    return lengths[0]


def offer_delta(bench: Bench, old: Record, new: Record) -> int:
    blobs = bench.files.blobs
    patch = delta.encode(blobs[old.digest], blobs[new.digest])
    bench.files.add_delta(new.digest, old.digest, patch)
    return len(patch)


def golden_bytes(bench: Bench, record: Record) -> int:
    assert record.golden
    offered = bench.files.deltas.get((record.golden.digest, EMPTY))
    return min(record.golden.length, offered["length"] if offered else record.golden.length)


def first(bench: Bench) -> Record:
    record = offer(bench.files, "1.0.0", models.wide(0))
    bench.have(record, STEP)
    return record


def second(bench: Bench) -> Record:
    return offer(bench.files, "1.1.0", models.wide(1))


def allow(bench: Bench, policy: Fallback, *, unmetered: bool = False) -> None:
    """Start the agent anew with another setting."""
    bench.tools = replace(bench.tools, fallback=policy, unmetered=lambda: unmetered)
    bench.open()


def codes(bench: Bench) -> list[str]:
    return [error.code for error in bench.notices]


def test_a_first_release_comes_packed_where_that_is_fewer_bytes(bench: Bench) -> None:
    record = second(bench)
    length = pack(bench, record)
    assert length < record.length
    bench.bring(goal(record))
    assert bench.serves() == record.digest
    state = bench.engine.memory.state
    assert state.method == "packed"
    assert state.bytes == length + golden_bytes(bench, record)
    assert not list(bench.store.partials.iterdir())


def test_a_packed_file_is_resumed_where_it_was_cut(bench: Bench) -> None:
    record = second(bench)
    length = pack(bench, record)
    blob = bench.files.deltas[record.digest, EMPTY]["blob"]
    path = f"/blobs/sha256/{blob}"
    bench.server.break_next(path, Fault(cut=70_000))
    bench.bring(goal(record))
    assert bench.serves() == record.digest
    assert bench.engine.memory.state.bytes == length + golden_bytes(bench, record)
    asked = [one.range for one in bench.server.requests if one.path == path]
    assert asked == [None, "bytes=70000-"]


@pytest.mark.parametrize("best", ["delta", "packed", "full"])
def test_the_smallest_of_delta_packed_and_whole_is_taken(bench: Bench, best: str) -> None:
    old, new = first(bench), second(bench)
    if best != "full":
        pack(bench, new)
    if best == "delta":
        offer_delta(bench, old, new)
    else:  # larger than the file, packed
        bench.files.add_delta(new.digest, old.digest, bytes(new.length - 1))
    if best == "full":
        bench.files.deltas.clear()
    bench.bring(goal(new, NEXT))
    assert bench.serves() == new.digest
    assert bench.engine.memory.state.method == best
    assert codes(bench) == []


@pytest.mark.parametrize("policy", list(Fallback))
def test_a_file_that_was_packed_badly_comes_as_it_is_and_that_is_told(
    bench: Bench, policy: Fallback
) -> None:
    allow(bench, policy)
    record = second(bench)
    bench.files.add_delta(record.digest, EMPTY, BAD)
    bench.bring(goal(record))
    assert bench.serves() == record.digest
    assert bench.engine.memory.state.method == "full"
    assert codes(bench) == ["E_PACKED"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("policy", "unmetered"), [(Fallback.ALWAYS, False), (Fallback.WIFI, True)]
)
def test_after_one_bad_delta_the_whole_file_follows_where_it_may(
    bench: Bench, policy: Fallback, *, unmetered: bool, packed: bool
) -> None:
    old = first(bench)
    allow(bench, policy, unmetered=unmetered)
    assert bench.engine.serve(old)
    new = second(bench)
    if packed:
        pack(bench, new)
    bench.files.add_delta(new.digest, old.digest, BAD)
    bench.bring(goal(new, NEXT))
    assert bench.serves() == new.digest
    assert codes(bench) == ["E_DELTA"]
    state = bench.engine.memory.state
    assert state.method == ("packed" if packed else "full")
    assert "E_PATCH" in state.fell_back


@pytest.mark.parametrize("policy", [Fallback.NEVER, Fallback.WIFI])
def test_where_the_whole_file_may_not_follow_the_slot_stays_and_says_why(
    bench: Bench, policy: Fallback
) -> None:
    old = first(bench)
    allow(bench, policy, unmetered=False)
    assert bench.engine.serve(old)
    new = second(bench)
    pack(bench, new)
    bench.files.add_delta(new.digest, old.digest, BAD)
    wanted = goal(new, NEXT)
    for _ in range(2):  # a second try is no more allowed, and not told as another failure
        bench.server.requests.clear()
        bench.bring(wanted)
        assert bench.serves() == old.digest
        assert bench.slots.current("linear") == old
        failure = bench.engine.failure
        assert failure is not None
        assert failure.code == "E_FULL_FORBIDDEN"
        assert failure.data == {"policy": policy.value}
        assert "E_PATCH" in failure.what
    assert codes(bench) == ["E_DELTA"]
    assert bench.engine.memory.state.quarantine == ()
    assert not [one for one in bench.server.requests if one.path.startswith("/blobs")]


@pytest.mark.slow
def test_it_goes_on_once_the_way_is_unmetered(bench: Bench) -> None:
    old = first(bench)
    allow(bench, Fallback.WIFI, unmetered=False)
    assert bench.engine.serve(old)
    new = second(bench)
    bench.files.add_delta(new.digest, old.digest, BAD)
    bench.bring(goal(new, NEXT))
    assert bench.serves() == old.digest
    bench.engine._tools = replace(bench.tools, unmetered=lambda: True)
    bench.bring(goal(new, NEXT))
    assert bench.serves() == new.digest


def test_another_delta_is_taken_where_the_whole_file_may_not_follow(bench: Bench) -> None:
    old = first(bench)
    allow(bench, Fallback.NEVER)
    assert bench.engine.serve(old)
    new = second(bench)
    bench.files.add_delta(new.digest, old.digest, BAD)
    bench.bring(goal(new, NEXT))
    assert bench.serves() == old.digest
    offer_delta(bench, old, new)
    bench.bring(goal(new, NEXT))
    assert bench.serves() == new.digest
    assert bench.engine.memory.state.method == "delta"


def test_without_a_delta_on_offer_the_whole_file_is_no_fallback(bench: Bench) -> None:
    old = first(bench)
    allow(bench, Fallback.NEVER)
    assert bench.engine.serve(old)
    new = second(bench)
    bench.bring(goal(new, NEXT))
    assert bench.serves() == new.digest
    assert bench.engine.memory.state.fell_back == ""


@pytest.mark.parametrize("policy", list(Fallback))
def test_a_delta_that_memory_does_not_allow_counts_as_one_of_no_use(
    bench: Bench, policy: Fallback
) -> None:
    old = first(bench)
    allow(bench, policy)
    assert bench.engine.serve(old)
    new = second(bench)
    offer_delta(bench, old, new)
    bench.files.deltas[new.digest, old.digest]["memory"] = 1 << 40
    bench.bring(goal(new, NEXT))
    allowed = policy is Fallback.ALWAYS
    assert bench.serves() == (new.digest if allowed else old.digest)
    assert [error.what for error in bench.notices if "MiB of memory" in error.what]


@pytest.mark.slow
def test_an_offer_that_leads_nowhere_counts_as_a_bad_delta(bench: Bench) -> None:
    old, new = first(bench), second(bench)
    offer_delta(bench, old, new)
    del bench.files.blobs[bench.files.deltas[new.digest, old.digest]["blob"]]
    bench.bring(goal(new, NEXT))
    assert bench.serves() == new.digest
    assert codes(bench) == ["E_DELTA"]
    assert "E_NOT_FOUND" in bench.engine.memory.state.fell_back


@pytest.mark.slow
def test_a_server_that_cannot_be_asked_for_deltas_is_waited_for(bench: Bench) -> None:
    old, new = first(bench), second(bench)
    offer_delta(bench, old, new)
    path = f"/deltas/{new.digest}/{old.digest}"
    bench.server.break_next(path, Fault(status=503))
    wanted = goal(new, NEXT)
    bench.bring(wanted)
    assert bench.serves() == old.digest
    bench.bring(wanted)
    assert bench.engine.memory.state.method == "delta"


@pytest.mark.parametrize("unmetered", [False, True])
def test_the_word_of_the_operator_is_a_table(*, unmetered: bool) -> None:
    allowed = {one for one in Fallback if may_fall_back(one, unmetered=unmetered)}
    assert allowed == {Fallback.ALWAYS} | ({Fallback.WIFI} if unmetered else set())
