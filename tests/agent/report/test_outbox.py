"""Reports: chained, kept until acknowledged, and readable by a server."""

from pathlib import Path

import msgspec
import pytest
from tests.agent.report.conftest import OpenOutbox

from modelfleet_agent import fsio
from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.report.outbox import (
    Ack,
    Batch,
    Outbox,
    Sealed,
    Situation,
    read_ack,
)
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import cap_of, write
from modelfleet_manifests.errors import FormatError
from modelfleet_manifests.header import Minimum
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.report import (
    FIRST,
    LATENCY_BOUNDS_US,
    Held,
    Report,
    SlotReport,
    SlotTelemetry,
    open_report,
    open_telemetry,
)


def slot(detail: str = "", begun: int = 0) -> SlotReport:
    return SlotReport(
        phase="idle",
        action="keep",
        reason="as-wanted",
        detail=detail,
        begun=[f"{number:032x}" for number in range(begun)],
        failures=0,
        bytes=0,
        method="none",
    )


def situation(at: int = 1, **slots: SlotReport) -> Situation:
    return Situation(
        at=at,
        nonce="0" * 32,
        documents={"mf/v1/d/dev-1/assignment": Held(epoch=1, counter=2, digest="4" * 64)},
        slots=slots or {"main": slot()},
        metadata=Minimum(root=1, timestamp=2),
        facts=Facts(arch="x86_64"),
        errors=["E_OLDER: old"],
    )


def batch(until: int = 2) -> Batch:
    counted = SlotTelemetry(
        release="5" * 64,
        requests=3,
        errors=0,
        latency_us=90,
        buckets=[3] + [0] * len(LATENCY_BOUNDS_US),
        labelled=2,
        hits=1,
    )
    return Batch(since=1, until=until, memory_kb=10, slots={"main": [counted]})


def opened(sealed: Sealed, key: PrivateKey) -> Report:
    return open_report(sealed.read(), "dev-1", [key.public])


def test_each_report_carries_the_digest_of_the_one_before(
    open_outbox: OpenOutbox, key: PrivateKey
) -> None:
    outbox = open_outbox()
    reports = [opened(outbox.add_report(situation(at)), key) for at in range(4)]
    assert [one.seq for one in reports] == [1, 2, 3, 4]
    before = [FIRST, *(sha256(write(one)) for one in reports)]
    assert [one.prev for one in reports] == before[:4]
    assert reports[0].errors == ["E_OLDER: old"]
    assert reports[0].metadata.timestamp == 2


def test_the_chain_goes_on_after_a_restart(
    open_outbox: OpenOutbox, key: PrivateKey
) -> None:
    first = opened(open_outbox().add_report(situation()), key)
    second = opened(open_outbox().add_report(situation()), key)
    assert (second.seq, second.prev) == (2, sha256(write(first)))


def test_the_chain_goes_on_after_everything_was_acknowledged(
    open_outbox: OpenOutbox, key: PrivateKey
) -> None:
    outbox = open_outbox()
    first = opened(outbox.add_report(situation()), key)
    outbox.acknowledge(Ack(1, 1))
    assert opened(open_outbox().add_report(situation()), key).prev == sha256(write(first))


def test_an_acknowledgement_counts_for_all_before_it(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox()
    for at in range(4):
        outbox.add_report(situation(at))
    assert outbox.acknowledge(Ack(1, 3)) == 3
    assert outbox.acknowledge(Ack(1, 3)) == 0
    assert [one.seq for one in outbox.pending()] == [4]
    assert [one.seq for one in open_outbox().pending()] == [4]


def test_an_acknowledgement_of_another_incarnation_counts_for_nothing(
    open_outbox: OpenOutbox,
) -> None:
    outbox = open_outbox()
    outbox.add_report(situation())
    assert outbox.acknowledge(Ack(2, 1)) == 0
    assert len(outbox.pending()) == 1


def test_an_acknowledgement_of_a_report_that_was_never_made_counts_for_nothing(
    open_outbox: OpenOutbox,
) -> None:
    outbox = open_outbox()
    outbox.add_report(situation())
    assert outbox.acknowledge(Ack(1, 99)) == 0
    assert len(outbox.pending()) == 1


def test_another_incarnation_restarts_the_chain(
    open_outbox: OpenOutbox, me: Enrolment, key: PrivateKey
) -> None:
    open_outbox().add_report(situation())
    again = open_outbox(msgspec.structs.replace(me, incarnation=2))
    assert again.pending() == []
    report = opened(again.add_report(situation()), key)
    assert (report.seq, report.prev, report.incarnation) == (1, FIRST, 2)


class PowerCutError(Exception):
    """The power went away."""


@pytest.mark.parametrize("cut", range(12))
def test_a_power_cut_at_any_write_never_forks_the_chain(
    open_outbox: OpenOutbox, key: PrivateKey, cut: int
) -> None:
    first = open_outbox().add_report(situation())
    left = cut

    def count(_operation: str, _path: Path) -> None:
        nonlocal left
        if left == 0:
            raise PowerCutError
        left -= 1

    outbox = open_outbox()
    stop = fsio.watch(count)
    try:
        outbox.add_report(situation(2))
    except PowerCutError:
        pass
    finally:
        stop()
    again = open_outbox()
    again.add_report(situation(3))
    chain = [opened(one, key) for one in again.pending()]
    assert [one.seq for one in chain] == list(range(1, len(chain) + 1))
    assert [one.prev for one in chain] == [
        FIRST,
        *(sha256(write(one)) for one in chain[:-1]),
    ]
    assert again.pending()[0] == first


def test_a_full_disk_says_nothing_and_moves_nothing(
    open_outbox: OpenOutbox, key: PrivateKey
) -> None:
    outbox = open_outbox()

    def fail(operation: str, path: Path) -> None:
        if operation == "write":
            raise RetryableError("E_NO_SPACE", f"cannot write {path}")

    stop = fsio.watch(fail)
    try:
        with pytest.raises(RetryableError):
            outbox.add_report(situation())
    finally:
        stop()
    assert outbox.pending() == []
    assert opened(outbox.add_report(situation()), key).seq == 1


def test_after_the_chain_is_lost_the_server_sees_a_gap_not_a_clone(
    open_outbox: OpenOutbox, key: PrivateKey, tmp_path: Path
) -> None:
    outbox = open_outbox()
    for at in range(3):
        outbox.add_report(situation(at))
    outbox.acknowledge(Ack(1, 3))
    (tmp_path / "outbox" / "chain.json").write_bytes(b"rotten")
    again = open_outbox()
    again.add_report(situation())
    again.acknowledge(Ack(1, 3))
    assert opened(again.add_report(situation()), key).seq == 5


def test_telemetry_goes_oldest_first_when_the_budget_is_spent(
    open_outbox: OpenOutbox, key: PrivateKey
) -> None:
    outbox = open_outbox(budget=16)
    outbox.add_report(situation())
    made = [outbox.add_telemetry(batch(until)) for until in range(2, 12)]
    kept = outbox.pending_telemetry()
    assert 1 < len(kept) < 10
    assert kept == made[-len(kept) :]
    assert sum(one.path.stat().st_blocks * 512 for one in kept) <= 16 << 10
    assert outbox.telling() == 10 - len(kept)
    assert outbox.telling() == 0
    assert len(outbox.pending()) == 1
    assert open_outbox().pending_telemetry() == kept
    last = open_telemetry(kept[-1].read(), "dev-1", [key.public])
    assert (last.seq, last.until) == (10, 11)
    assert last.slots["main"][0].hits == 1


def test_reports_are_never_dropped_for_telemetry(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox(budget=0)
    for at in range(5):
        outbox.add_report(situation(at))
        outbox.add_telemetry(batch())
    assert len(outbox.pending()) == 5
    assert len(outbox.pending_telemetry()) == 1


def test_telemetry_that_the_broker_took_is_forgotten(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox()
    sealed = outbox.add_telemetry(batch())
    report = outbox.add_report(situation())
    for one in (sealed, sealed, report):
        outbox.forget(one)
    assert outbox.pending_telemetry() == []
    assert outbox.pending() == [report]  # a report waits for its acknowledgement
    assert open_outbox().add_telemetry(batch()).seq == 2


def test_what_does_not_fit_into_a_report_is_cut(
    open_outbox: OpenOutbox, key: PrivateKey
) -> None:
    slots = {f"slot-{number}": slot("x" * 900, begun=200) for number in range(16)}
    sealed = open_outbox().add_report(
        Situation(
            at=1,
            nonce="0" * 32,
            documents={},
            slots=slots,
            metadata=Minimum(),
            facts=Facts(),
            errors=[f"E_{number} " + "y" * 500 for number in range(100)],
        )
    )
    assert len(sealed.read()) <= cap_of("report")
    report = opened(sealed, key)
    assert len(report.slots) == 16
    assert report.slots["slot-0"].begun[-1] == f"{199:032x}"  # the newest stay


def test_a_report_that_no_server_would_read_is_not_signed(open_outbox: OpenOutbox) -> None:
    outbox = open_outbox()
    with pytest.raises(FormatError):
        outbox.add_report(situation(1, **{"Not A Name": slot()}))
    assert outbox.pending() == []


def test_a_damaged_report_does_not_stop_the_rest(
    open_outbox: OpenOutbox, tmp_path: Path
) -> None:
    outbox: Outbox = open_outbox()
    for at in range(3):
        outbox.add_report(situation(at))
    (tmp_path / "outbox" / "report-1-9.dsse").write_bytes(b"?")
    assert [one.seq for one in open_outbox().pending()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("payload", "ack"),
    [
        (b'{"incarnation":1,"seq":7}', Ack(1, 7)),
        (b'{"incarnation":1}', None),
        (b'{"incarnation":1,"seq":-1}', None),
        (b'{"incarnation":1,"seq":"7"}', None),
        (b"", None),
        (b"[]", None),
        (b"{" * 10_000, None),
    ],
)
def test_an_ack_is_read_strictly(payload: bytes, ack: Ack | None) -> None:
    assert read_ack(payload) == ack
