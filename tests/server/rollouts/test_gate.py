"""What the gate lets through, what it stops, and what it says when it cannot tell."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_server.rollouts.gate import Evidence, Gate, Outcome, Tally, judge_wave

GATE = Gate()


def tally(device: int, hits: int, labelled: int = 200, errors: int = 0) -> Tally:
    return Tally(f"cam-{device}", labelled, errors, labelled, hits)


def evidence(candidate: list[Tally], incumbent: list[Tally], **changes: int) -> Evidence:
    count = len(candidate)
    base = Evidence(candidate, incumbent, count, count, 0, waited_ms=1000)
    return replace(base, **changes)  # type: ignore[arg-type]


GOOD = [tally(n, 190) for n in range(6)]


def test_a_candidate_as_good_as_the_incumbent_passes() -> None:
    assert judge_wave(GATE, evidence(GOOD[:3], GOOD)).outcome is Outcome.PASS


def test_a_clearly_worse_candidate_is_stopped_with_its_numbers() -> None:
    worse = [tally(n, 130) for n in range(3)]
    verdict = judge_wave(GATE, evidence(worse, GOOD))
    assert verdict.outcome is Outcome.BREACH
    assert verdict.drop == pytest.approx(0.30)
    assert "limit 0.050" in verdict.reason
    assert "n=600" in verdict.reason


def test_a_bad_candidate_is_stopped_before_every_device_has_its_sample() -> None:
    early = [tally(0, 100), tally(1, 20, labelled=40)]
    assert judge_wave(GATE, evidence(early, GOOD)).outcome is Outcome.BREACH


def test_too_few_labels_are_pending_until_the_deadline_then_not_enough() -> None:
    few = [tally(n, 95, labelled=100) for n in range(3)]
    assert judge_wave(GATE, evidence(few, GOOD)).outcome is Outcome.PENDING
    late = judge_wave(GATE, evidence(few, GOOD, waited_ms=GATE.deadline_ms))
    assert late.outcome is Outcome.NOT_ENOUGH
    assert "0 of 3 devices" in late.reason


def test_silence_is_not_success() -> None:
    verdict = judge_wave(GATE, evidence([], GOOD, waited_ms=GATE.deadline_ms))
    assert verdict.outcome is Outcome.NOT_ENOUGH


def test_a_device_that_failed_to_run_it_stops_the_rollout() -> None:
    verdict = judge_wave(GATE, evidence(GOOD[:2], GOOD, expected=3, failed=1))
    assert verdict.outcome is Outcome.BREACH


def test_failed_requests_stop_the_rollout() -> None:
    broken = [tally(n, 190, errors=5) for n in range(3)]
    assert judge_wave(GATE, evidence(broken, GOOD)).outcome is Outcome.BREACH


def test_a_wave_waits_for_the_devices_that_were_heard_of() -> None:
    verdict = judge_wave(GATE, evidence(GOOD[:3], GOOD, expected=4))
    assert verdict.outcome is Outcome.PENDING
    assert "3 of 4" in verdict.reason


def test_without_a_sample_size_a_wave_passes_when_all_run_it() -> None:
    gate = replace(GATE, min_labelled=0)
    assert judge_wave(gate, evidence(GOOD[:3], [])).outcome is Outcome.PASS


def test_one_busy_device_cannot_outvote_the_others() -> None:
    busy = [tally(0, 95_000, labelled=100_000), tally(1, 120), tally(2, 120)]
    assert judge_wave(GATE, evidence(busy, GOOD)).outcome is Outcome.BREACH


@given(st.integers(0, 200), st.integers(0, 200))
def test_a_gate_never_passes_what_is_worse_by_more_than_its_limit(
    old: int, new: int
) -> None:
    incumbent = [tally(n, old) for n in range(3)]
    candidate = [tally(n, new) for n in range(3)]
    verdict = judge_wave(GATE, evidence(candidate, incumbent))
    if old - new > GATE.max_drop / 1000 * 200:
        assert verdict.outcome is not Outcome.PASS
    if new >= old:
        assert verdict.outcome is not Outcome.BREACH
