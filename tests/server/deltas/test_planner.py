"""What a plan makes for devices that really run something, with real files and children."""

import random

import pytest
from sqlmodel import select
from tests.server.builds.models import digits
from tests.server.deltas.conftest import MODEL, PLENTY, Yard
from tests.support.fleet import NOW

from modelfleet_manifests import delta
from modelfleet_manifests.digests import EMPTY
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.blobs.tables import StoredBlob
from modelfleet_server.builds.messages import Limits
from modelfleet_server.catalog import service as catalog
from modelfleet_server.deltas import service
from modelfleet_server.deltas.domain import Budget, State

DAY_MS = 86_400_000


def noise(seed: int, size: int = 40_000) -> bytes:
    return random.Random(seed).randbytes(size)


def test_a_delta_is_made_for_what_devices_run(yard: Yard) -> None:
    yard.run("1.0.0", 3)
    assert yard.plan("1.1.0") == ["needs", "weigh", "plan", "batch 0"]
    row = yard.found("1.0.0", "1.1.0")
    assert row is not None
    assert (row.state, row.devices, row.model) == (State.MADE, 3, MODEL)
    assert 0 < row.length < row.whole < row.size
    assert abs(row.estimate - row.length) < 0.2 * row.length
    offer = yard.offer("1.0.0", "1.1.0")
    assert offer == yard.blobs.get(offer.digest if offer else "")
    old, new = (digits(one).read_bytes() for one in ("1.0.0", "1.1.0"))
    assert offer
    assert yard.blobs.read(offer.digest) == delta.encode(old, new)


def test_nothing_is_made_that_no_device_could_use(yard: Yard) -> None:
    yard.run("1.1.0")
    yard.plan("1.1.0")
    yard.plan("1.0.0")
    assert yard.offer("1.0.0", "1.1.0") is None
    assert yard.state("1.1.0", "1.0.0") is State.MADE


def test_a_delta_that_is_no_smaller_than_the_packed_file_is_dropped_for_good(
    yard: Yard,
) -> None:
    yard.release("2.0.0", noise(2))
    yard.run("1.0.0")
    yard.plan("2.0.0")
    row = yard.found("1.0.0", "2.0.0")
    assert row is not None
    assert row.state is State.DROPPED
    assert "the packed file has" in row.reason
    assert yard.offer("1.0.0", "2.0.0") is None
    steps = yard.plan("2.0.0", retry=True)
    assert steps == ["needs", "weigh", "plan"]
    again = yard.found("1.0.0", "2.0.0")
    assert again is not None
    assert again.changed_ms == row.changed_ms


def test_one_that_turns_out_larger_than_it_was_estimated_is_dropped(yard: Yard) -> None:
    yard.run("1.0.0")
    with yard.database.write() as session:
        packed = catalog.find_delta(session, yard.files["1.1.0"], EMPTY)
        assert packed
        packed.length = 100_000_000  # so the estimate looks good
        session.add(packed)
    planner, ref = yard.planner(), yard.releases["1.1.0"]
    needs = planner._ask(service.Order(ref.id))
    (need,) = needs
    with yard.database.write() as session:
        release = catalog.releases_by_id(session, [ref.id])[ref.id]
        row = service.plan(session, (ref.id, release), need, 1, at_ms=NOW)
        row.whole = 10
        session.add(row)
        result = service.Result(need.new, need.old, "f" * 64, 11)
        service.settle(session, [result], yard.blobs, at_ms=NOW)
    assert yard.state("1.0.0", "1.1.0") is State.DROPPED


@pytest.mark.slow
def test_the_largest_saving_goes_first_and_the_rest_waits_for_the_next_plan(
    yard: Yard,
) -> None:
    near = bytearray(digits("1.1.0").read_bytes())
    near[-8:] = bytes(8)
    yard.release("1.2.0", bytes(near))
    yard.run("1.0.0", 1)
    yard.run("1.1.0", 5)
    yard.plan("1.2.0", Budget(1, PLENTY.length, PLENTY.cpu_ms))
    assert yard.state("1.1.0", "1.2.0") is State.MADE
    assert yard.state("1.0.0", "1.2.0") is State.POSTPONED
    yard.plan("1.2.0")
    assert yard.state("1.0.0", "1.2.0") is State.MADE


@pytest.mark.slow
def test_cpu_that_is_used_up_postpones_what_is_left(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate of CPU lets both in; what the first really takes leaves none."""
    monkeypatch.setattr("modelfleet_server.deltas.planner.BATCH_COUNT", 1)
    monkeypatch.setattr("modelfleet_server.deltas.domain.LEAST_CPU_MS", 1)
    monkeypatch.setattr("modelfleet_server.deltas.domain.ENCODED_PER_MS", 1 << 40)
    yard.release("1.2.0", digits("1.1.0").read_bytes() + noise(3, 8 << 20))
    yard.run("1.0.0", 1)
    yard.run("1.1.0", 5)
    yard.plan("1.2.0", Budget(64, PLENTY.length, 2))
    assert yard.state("1.1.0", "1.2.0") is State.MADE
    assert yard.state("1.0.0", "1.2.0") is State.POSTPONED


@pytest.mark.slow
def test_a_pair_that_kills_its_child_fails_alone_and_is_tried_again_when_asked(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child's limits leave no room for one file: its neighbour must not suffer."""
    huge = noise(7, 48 << 20)
    yard.release("1.2.0", digits("1.1.0").read_bytes() + b"\0" * 9, packed=False)
    yard.release("0.9.0", huge, packed=False)
    yard.run("0.9.0", 1)
    yard.run("1.1.0", 1)
    limits = "modelfleet_server.builds.children.limits_for"
    few = Limits(memory_mb=230)
    with monkeypatch.context() as patched:
        patched.setattr(limits, lambda _size: few)
        yard.plan("1.2.0")
    assert yard.state("1.1.0", "1.2.0") is State.MADE
    row = yard.found("0.9.0", "1.2.0")
    assert row is not None
    assert row.state is State.FAILED
    assert "memory" in row.reason
    yard.plan("1.2.0")
    assert yard.state("0.9.0", "1.2.0") is State.FAILED
    yard.plan("1.2.0", retry=True)
    assert yard.state("0.9.0", "1.2.0") in {State.MADE, State.DROPPED}


@pytest.mark.slow
def test_a_second_plan_repeats_nothing(yard: Yard) -> None:
    yard.run("1.0.0")
    yard.plan("1.1.0")
    before = yard.offer("1.0.0", "1.1.0")
    assert yard.plan("1.1.0") == ["needs", "weigh", "plan"]
    assert yard.offer("1.0.0", "1.1.0") == before


def test_signing_a_release_asks_for_its_deltas(yard: Yard) -> None:
    yard.fleet.publisher.on_closed.append(service.on_closed)
    ref = yard.release("1.3.0", noise(3))
    with yard.database.read() as session:
        assert service.is_pending(session, ref.id)


def test_what_a_device_could_use_stays_and_the_rest_is_swept_with_its_bytes(
    yard: Yard,
) -> None:
    yard.run("1.0.0")
    yard.plan("1.1.0")
    offer = yard.offer("1.0.0", "1.1.0")
    assert offer

    def sweep(now: int) -> int:
        with yard.database.write() as session:
            return service.sweep(session, yard.blobs, now_ms=now, keep_ms=DAY_MS)

    assert sweep(NOW + 10 * DAY_MS) == 0  # a device runs 1.0.0, and 1.1.0 is the newest
    yard.release("1.2.0", noise(5))
    assert sweep(NOW + 11 * DAY_MS) == 0  # nothing wants 1.1.0 any more, but not for long
    assert sweep(NOW + 12 * DAY_MS) == 1
    assert yard.offer("1.0.0", "1.1.0") is None
    assert yard.found("1.0.0", "1.1.0") is None
    assert not yard.blobs.exists(offer.digest)
    with yard.database.read() as session:
        assert session.get(StoredBlob, offer.digest) is None
        assert catalog.find_delta(session, yard.files["1.1.0"], EMPTY)
        entries = session.exec(select(AuditEntry.action)).all()
    assert "delta.swept" in entries


def test_a_release_that_a_device_wants_keeps_its_deltas(yard: Yard) -> None:
    yard.run("1.0.0", wanted=yard.releases["1.1.0"].id)
    yard.plan("1.1.0")
    yard.release("1.2.0", noise(5))
    with yard.database.write() as session:
        now = NOW + 30 * DAY_MS
        assert service.sweep(session, yard.blobs, now_ms=now, keep_ms=0) == 0


@pytest.mark.slow
def test_bytes_that_something_else_keeps_stay(yard: Yard) -> None:
    yard.run("1.0.0")
    yard.plan("1.1.0")
    offer = yard.offer("1.0.0", "1.1.0")
    assert offer
    yard.release("9.0.0", yard.blobs.read(offer.digest))  # as a file, of all things
    with yard.database.write() as session:
        now = NOW + 30 * DAY_MS
        assert service.sweep(session, yard.blobs, now_ms=now, keep_ms=0) == 1
    assert yard.blobs.exists(offer.digest)
