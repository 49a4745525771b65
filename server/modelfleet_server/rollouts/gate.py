"""The gate between two waves: is the candidate as good where it runs as what ran before?

Pure. Each device counts the same, however much traffic it sees, so one busy or lying device
cannot decide alone. The drop in accuracy is the mean over devices of the incumbent minus
that of the candidate, with a normal interval from the devices' binomial variances, each
smoothed by adding two successes and two failures (Agresti and Coull, 1998), so that 200 of
200 right answers do not claim certainty.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

Z_99 = 2.576
SMOOTH = 2


class Outcome(StrEnum):
    """What a gate says now."""

    PENDING = "pending"
    PASS = "pass"  # noqa: S105 not a password
    BREACH = "breach"
    NOT_ENOUGH = "not-enough-evidence"


@dataclass(frozen=True, slots=True)
class Gate:
    """What a wave must show before the next one.

    Attributes:
        min_labelled: Labelled answers that each device of the wave must have.
        max_drop: Largest tolerated drop in accuracy, in thousandths.
        max_errors: Largest tolerated share of failed requests, in thousandths.
        max_failed: Devices that may fail to run the release.
        deadline_ms: How long the evidence may take.
        undo: Undo by itself after a breach.
    """

    min_labelled: int = 200
    max_drop: int = 50
    max_errors: int = 10
    max_failed: int = 0
    deadline_ms: int = 600_000
    undo: bool = True


@dataclass(frozen=True, slots=True)
class Tally:
    """What one device answered under one release."""

    device: str
    requests: int
    errors: int
    labelled: int
    hits: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a wave.

    Attributes:
        candidate: Of devices of the wave, under the new release.
        incumbent: Of the group's devices under what they ran before.
        expected: Devices of the wave that were heard of lately.
        running: Those that run the new release.
        failed: Those that failed to.
        waited_ms: Since the wave was published.
    """

    candidate: Sequence[Tally]
    incumbent: Sequence[Tally]
    expected: int
    running: int
    failed: int
    waited_ms: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome with its numbers: a gate never fails without them.

    Attributes:
        drop: Estimated drop in accuracy, None while there is no estimate.
        low: Lower end of its 99 % interval.
        high: Upper end.
        samples: Labelled answers under the candidate.
    """

    outcome: Outcome
    reason: str
    drop: float | None = None
    low: float | None = None
    high: float | None = None
    samples: int = 0


def judge_wave(gate: Gate, evidence: Evidence) -> Judgement:
    """Return what the gate says of a wave."""
    if evidence.failed > gate.max_failed:
        return Judgement(
            Outcome.BREACH,
            f"{evidence.failed} devices failed to run it, {gate.max_failed} may",
        )
    broken = _judge_errors(gate, evidence)
    if broken is not None:
        return broken
    ready = [one for one in evidence.candidate if one.labelled >= gate.min_labelled]
    missing = _missing(gate, evidence, len(ready))
    estimate = _estimate(ready, evidence.incumbent, gate)
    if estimate is not None and estimate.outcome is Outcome.BREACH:
        return estimate
    if not missing and estimate is not None and estimate.outcome is Outcome.PASS:
        return estimate
    if evidence.waited_ms >= gate.deadline_ms:
        why = missing or (estimate.reason if estimate else "nothing to compare with")
        return _with(estimate, Outcome.NOT_ENOUGH, f"not enough evidence: {why}")
    return _with(estimate, Outcome.PENDING, missing or "undecided, gathering evidence")


def _missing(gate: Gate, evidence: Evidence, ready: int) -> str:
    settled = evidence.running + evidence.failed
    if evidence.expected == 0:
        return "no device of the wave was heard of lately"
    if settled < evidence.expected:
        return f"{settled} of {evidence.expected} devices of the wave are through"
    if gate.min_labelled and ready < evidence.running:
        return f"{ready} of {evidence.running} devices have {gate.min_labelled} labels"
    return ""


def _judge_errors(gate: Gate, evidence: Evidence) -> Judgement | None:
    requests = sum(one.requests for one in evidence.candidate)
    errors = sum(one.errors for one in evidence.candidate)
    if errors * 1000 > gate.max_errors * max(requests, 1) and errors > 1:
        return Judgement(
            Outcome.BREACH,
            f"{errors} of {requests} requests failed, {gate.max_errors / 10:g} % may",
        )
    return None


def _estimate(
    ready: Sequence[Tally], incumbent: Sequence[Tally], gate: Gate
) -> Judgement | None:
    if gate.min_labelled == 0:
        return Judgement(Outcome.PASS, "every device runs it")
    base = [one for one in incumbent if one.labelled >= gate.min_labelled]
    if not ready or not base:
        return None
    new, new_variance = _mean(ready)
    old, old_variance = _mean(base)
    drop, half = old - new, Z_99 * math.sqrt(new_variance + old_variance)
    limit = gate.max_drop / 1000
    samples = sum(one.labelled for one in ready)
    words = (
        f"accuracy {new:.3f} against {old:.3f}: drop {drop:+.3f} "
        f"({drop - half:+.3f} to {drop + half:+.3f}), limit {limit:.3f}, n={samples}"
    )
    outcome = Outcome.PENDING
    if drop - half > 0 and drop > limit:
        outcome = Outcome.BREACH
    elif drop + half <= limit:
        outcome = Outcome.PASS
    return Judgement(outcome, words, drop, drop - half, drop + half, samples)


def _mean(tallies: Sequence[Tally]) -> tuple[float, float]:
    """Return the mean accuracy over devices, and the variance of that mean."""
    shares = [one.hits / one.labelled for one in tallies]
    variance = 0.0
    for one in tallies:
        n = one.labelled + 2 * SMOOTH
        p = (one.hits + SMOOTH) / n
        variance += p * (1 - p) / n
    return sum(shares) / len(shares), variance / len(shares) ** 2


def _with(estimate: Judgement | None, outcome: Outcome, reason: str) -> Judgement:
    if estimate is None:
        return Judgement(outcome, reason)
    return Judgement(
        outcome, reason, estimate.drop, estimate.low, estimate.high, estimate.samples
    )
