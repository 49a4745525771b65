"""What the supervisor says of a slot, and what it counts: pure parts."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime.messages import ReleaseStatistics, Statistics
from modelfleet_agent.store import FileEntry, Record
from modelfleet_agent.supervisor.counting import Counting
from modelfleet_agent.supervisor.slots import Checked, View, name_of, report_of, status_of
from modelfleet_agent.update.phases import Phase
from modelfleet_agent.update.state import Failure, SlotState, quarantine
from modelfleet_agent.update.work import Entry
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.report import LATENCY_BOUNDS_US, Running, SlotReport
from modelfleet_manifests.wanted import Action, Passed, Reason, Wanted

STEP, RELEASE, DIGEST = "1" * 32, "2" * 64, "3" * 64
RECORD = Record(
    release=RELEASE,
    model="demo/linear",
    version="1.0.0",
    profile="generic",
    files=(FileEntry("model.onnx", DIGEST, 1),),
)
REF = ReleaseRef(model="demo/linear", version="1.0.0", id=RELEASE)
FINE = View(
    wanted=Wanted(Action.KEEP, Reason.AS_WANTED, "", REF, None, STEP),
    entry=Entry(),
    state=SlotState(current=RECORD, variant="any-fp32", step=STEP),
    serving=RECORD,
    checked=Checked(RECORD.key, DIGEST, intact=True),
    failure=None,
    rotten=False,
)


def view(**changes: object) -> View:
    fields = {name: getattr(FINE, name) for name in View.__slots__}
    return View(**(fields | changes))


def test_a_slot_that_serves_what_is_wanted_is_ok() -> None:
    assert status_of(FINE).state == "ok"
    running = report_of(FINE).running
    assert isinstance(running, Running)
    assert (running.variant, running.digest, running.intact) == ("any-fp32", DIGEST, True)


def test_an_altered_file_is_reported_with_what_it_hashes_to() -> None:
    altered = Checked(RECORD.key, "9" * 64, intact=False)
    row = report_of(view(checked=altered, rotten=True))
    assert isinstance(row.running, Running)
    assert (row.running.digest, row.running.intact, row.reason) == (
        "9" * 64,
        False,
        "bit-rot",
    )


def test_a_check_of_another_release_says_nothing_of_this_one() -> None:
    row = report_of(view(checked=Checked("other", "9" * 64, intact=False)))
    assert isinstance(row.running, Running)
    assert row.running.intact


def test_a_quarantined_step_is_named_though_a_lower_one_decides() -> None:
    failed = Failure(STEP, "8" * 64, "E_ANSWER", "off by 3")
    passed = Passed(STEP, "7" * 64, Reason.QUARANTINED, "waits")
    wanted = Wanted(Action.KEEP, Reason.AS_WANTED, "", REF, None, "5" * 32, (passed,))
    state = quarantine(FINE.state, failed, 0, lambda: 0.0)
    row = report_of(view(wanted=wanted, state=state))
    assert (row.reason, row.step, row.wanted, row.failures) == (
        "quarantined",
        STEP,
        "7" * 64,
        1,
    )
    assert row.detail == "E_ANSWER: off by 3"


@pytest.mark.parametrize("phase", sorted(set(Phase) - {Phase.IDLE}))
def test_work_shows_as_updating(phase: Phase) -> None:
    assert status_of(view(entry=Entry(phase=phase))).state == "updating"
    assert report_of(view(entry=Entry(phase=phase))).phase == phase


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_makes_a_report_that_can_be_read_back(reason: Reason) -> None:
    row = report_of(view(wanted=Wanted(Action.KEEP, reason, "x" * 500)))
    assert msgspec.convert(msgspec.to_builtins(row), SlotReport) == row


@pytest.mark.parametrize(
    ("code", "name"), [("E_NO_SPACE", "no-space"), ("E_DIGEST", "digest"), ("E_", "error")]
)
def test_a_code_becomes_a_name_that_a_report_may_carry(code: str, name: str) -> None:
    assert name_of(code) == name
    row = report_of(view(failure=RetryableError(code, "why")))
    assert row.reason == name
    assert msgspec.convert(msgspec.to_builtins(row), SlotReport) == row


def counters(boot: str, requests: int, hits: int = 0) -> Statistics:
    buckets = [0] * (len(LATENCY_BOUNDS_US) + 1)
    buckets[0] = requests
    row = ReleaseStatistics(
        slot="main", key=RECORD.key, release=RELEASE, digest=DIGEST, version="1.0.0",
        active=True, requests=requests, errors=0, latency=buckets,
        latency_sum_us=requests * 7, labelled=hits, hits=hits,
    )  # fmt: skip
    return Statistics(boot=boot, rss_kib=1, rejected=0, releases=[row])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50)), max_size=20))
def test_the_batches_together_hold_every_request_once_whatever_restarts(
    story: list[tuple[bool, int]],
) -> None:
    counting, boot, total, asked, told = Counting(), 0, 0, 0, 0
    for restart, more in story:
        if restart:
            boot, total = boot + 1, 0
        total, asked = total + more, asked + more
        for rows in counting.take(counters(str(boot), total), lambda *_: STEP).values():
            assert [row.step for row in rows] == [STEP]
            told += sum(row.requests for row in rows)
            assert sum(sum(row.buckets) for row in rows) == sum(r.requests for r in rows)
    assert told == asked


def test_nothing_new_is_no_batch() -> None:
    counting = Counting()
    assert counting.take(counters("a", 3), lambda *_: None)
    assert counting.take(counters("a", 3), lambda *_: None) == {}
