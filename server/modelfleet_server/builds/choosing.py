"""Which candidate ships, and why the others do not: pure, on what was measured.

First the gate: a candidate that answers otherwise than its master more than the profile's
budget allows does not ship, unless an approver overrode that. Then the profile's objective:
latency where it is measured, bytes on the wire between those that are about as fast, and
the profile's order of preference else.
"""

from collections.abc import Sequence
from math import sqrt

import msgspec

from modelfleet_manifests.profiles.definition import Objective, Profile
from modelfleet_server.builds.errors import ParityError

Z = 1.959964
"""Of the normal distribution: 95 % lie between -Z and Z."""
SAME = 1e-4
"""A candidate whose scores are off by no more than this share of the largest computes what
its master does: then few samples are enough."""
_ROUNDING = 1e-9
"""A loss of exactly the budget is within it."""
NEAR = 1.1
"""Candidates that take at most this much more than the fastest are as fast: of these the
one with the fewest bytes on the wire ships."""


class Candidate(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One row of the front. What was never measured is None.

    Attributes:
        name: Of the recipe.
        precision: Of its weights.
        refused: Why it could not be built or loaded; empty where it could.
        accuracy: Share of right answers on the evaluation set.
        disagreements: Samples on which it answers otherwise than its master.
        samples: Of the evaluation set.
        distance: The largest difference to a score of the master, as a share of the
            largest score.
        golden: How far its answers to the golden inputs are from the master's: the
            Euclidean distance as a share of the length of the master's.
        latency_ms: Median CPU time of one sample on one thread of this machine.
        p95_ms: The 95th percentile of it.
        size: Bytes.
        wire: Bytes that a device fetches which runs the newest release before.
        memory_mb: What loading and running it took.
        emulated: Accuracy by emulated processor.
        emulated_drop: How much less accurate than the master it is there, on the same
            samples.
        chosen: It ships.
        best: No other candidate is at least as good in everything and better in one.
        verdict: Why it ships, or why it does not.
    """

    name: str
    precision: str
    refused: str = ""
    accuracy: float | None = None
    disagreements: int | None = None
    samples: int = 0
    distance: float | None = None
    golden: float | None = None
    latency_ms: float | None = None
    p95_ms: float | None = None
    size: int | None = None
    wire: int | None = None
    memory_mb: float | None = None
    emulated: dict[str, float] = {}
    emulated_drop: dict[str, float] = {}
    chosen: bool = False
    best: bool = False
    verdict: str = ""


def interval(hits: int, samples: int) -> tuple[float, float]:
    """Return the 95 % interval (Wilson) of a share seen as `hits` of `samples`."""
    if samples == 0:
        return 0.0, 1.0
    share, square = hits / samples, Z * Z / samples
    middle = share + square / 2
    spread = Z * sqrt(share * (1 - share) / samples + square / (4 * samples))
    low, high = ((middle + sign * spread) / (1 + square) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)


def out_of_budget(one: Candidate, master_accuracy: float, objective: Objective) -> str:
    """Return why a measured candidate must not ship, "" if it may."""
    accuracy, differ = _measured(one.accuracy), int(_measured(one.disagreements))
    lost = master_accuracy - accuracy
    if lost > float(objective.accuracy_drop) + _ROUNDING:
        return (
            f"{one.name} loses {lost:.4f} of accuracy, over the budget of "
            f"{objective.accuracy_drop}"
        )
    if one.distance is not None and one.distance <= SAME:
        return ""
    _, high = interval(differ, one.samples)
    if high > float(objective.disagreement):
        return (
            f"{one.name} answers otherwise than the master on {differ} of {one.samples} "
            f"samples: up to {high:.4f} with 95 % confidence, over the budget of "
            f"{objective.disagreement}"
        )
    if one.golden is not None and one.golden > float(objective.golden_distance):
        return (
            f"{one.name} is {one.golden:.4f} of their length off the master's answers to "
            f"golden inputs, over the budget of {objective.golden_distance}"
        )
    return ""


def choose(
    profile: Profile,
    candidates: Sequence[Candidate],
    master_accuracy: float,
    *,
    override: str = "",
) -> tuple[Candidate, str]:
    """Return the candidate that ships and why; marks all of them with their verdicts.

    Args:
        profile: What counts.
        candidates: In the profile's order.
        master_accuracy: On the same evaluation set.
        override: The candidate that an approver lets pass the gate, "" for none.

    Raises:
        ParityError: None is within the budget.
    """
    for one in candidates:
        one.verdict = one.refused or out_of_budget(one, master_accuracy, profile.objective)
    _mark_best(candidates)
    built = {one.name: one for one in candidates if not one.refused}
    if override:
        return _overridden(built, override)
    passing = [one for one in candidates if not one.verdict]
    if not passing:
        raise ParityError(
            f"no candidate for {profile.name} is within its budget: "
            + "; ".join(one.verdict for one in candidates),
            "Publish a better calibration set, or let an approver override the gate.",
        )
    baseline = built.get(profile.baseline.name)
    if profile.objective.latency == "measured" and baseline is not None:
        chosen, why = _fastest(passing, candidates, profile)
    else:
        smaller = _smaller(passing, baseline)
        chosen, why = smaller[0], _preferred(smaller[0], candidates, master_accuracy)
    for one in passing:
        one.verdict = one.verdict or f"{chosen.name} is preferred"
    chosen.chosen, chosen.verdict = True, why
    return chosen, why


def _overridden(built: dict[str, Candidate], name: str) -> tuple[Candidate, str]:
    if name not in built:
        raise ParityError(
            f"the candidate {name!r}, which an approver let pass, could not be built",
            "Only the gate can be overridden.",
        )
    chosen = built[name]
    why = f"an approver let it pass: {chosen.verdict or 'it is within its budget'}"
    chosen.chosen, chosen.verdict = True, why
    return chosen, why


def _fastest(
    passing: list[Candidate], candidates: Sequence[Candidate], profile: Profile
) -> tuple[Candidate, str]:
    """Return the fastest, or the baseline where none is clearly faster."""
    baseline = next(one for one in candidates if one.name == profile.baseline.name)
    bound = float(profile.objective.faster) * _measured(baseline.latency_ms)
    faster = [one for one in passing if _measured(one.latency_ms) <= bound]
    for one in passing:
        if one not in faster and one is not baseline:
            one.verdict = f"{one.name} is not faster: {_times(one, baseline)}"
    if not faster:
        kept = baseline if baseline in passing else passing[0]
        others = [one.verdict for one in candidates if one is not kept and one.verdict]
        return kept, f"{kept.name} ships: " + ("; ".join(others) or "there is no other")
    least = min(_measured(one.latency_ms) for one in faster)
    near = [one for one in faster if _measured(one.latency_ms) <= NEAR * least]
    chosen = min(near, key=lambda one: one.wire or one.size or 0)
    for one in faster:
        if one is not chosen:
            one.verdict = f"{chosen.name} is {'smaller' if one in near else 'faster'}"
    return chosen, f"{chosen.name} is faster: {_times(chosen, baseline)}"


def _smaller(passing: list[Candidate], baseline: Candidate | None) -> list[Candidate]:
    """Return those that have fewer bytes than the baseline, and the baseline itself.

    Where latency is assumed, fewer bytes are what is known to be gained: a network whose
    branches each keep their own int8 weights beside the full ones has more.
    """
    if baseline is None:
        return passing
    kept = []
    for one in passing:
        if one is baseline or (one.size or 0) < (baseline.size or 0):
            kept.append(one)
        else:
            one.verdict = f"{one.name} is not smaller: {one.size} bytes"
    return kept or passing


def _times(one: Candidate, other: Candidate) -> str:
    return (
        f"{_measured(one.latency_ms):.3f} ms here, {other.name} "
        f"{_measured(other.latency_ms):.3f} ms"
    )


def _preferred(
    chosen: Candidate, candidates: Sequence[Candidate], master_accuracy: float
) -> str:
    before = candidates[: [one.name for one in candidates].index(chosen.name)]
    lost = max(0.0, master_accuracy - _measured(chosen.accuracy))
    if not before:
        return f"{chosen.name} is right for the profile, and loses {lost:.4f} of accuracy"
    return f"{chosen.name} ships: " + "; ".join(one.verdict for one in before)


def _mark_best(candidates: Sequence[Candidate]) -> None:
    points = {id(one): _point(one) for one in candidates if not one.refused}
    for one in candidates:
        mine = points.get(id(one))
        one.best = mine is not None and not any(
            other != mine and all(a <= b for a, b in zip(other, mine, strict=True))
            for other in points.values()
        )


def _point(one: Candidate) -> tuple[float, ...]:
    """What is better where it is less."""
    return (
        -_measured(one.accuracy),
        _measured(one.latency_ms),
        _measured(one.size),
        _measured(one.memory_mb),
    )


def _measured(value: float | None) -> float:
    assert value is not None  # noqa: S101 - only candidates that were refused lack figures
    return value
