"""Which candidate ships: the gate first, then the objective."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_manifests.profiles.definition import Objective, Profile
from modelfleet_server.builds.choosing import Candidate, choose, interval, out_of_budget
from modelfleet_server.builds.errors import ParityError
from modelfleet_server.builds.profiles import shipped_profiles

MASTER = 0.97


def candidate(name: str, *, ms: float = 1.0, **changes: object) -> Candidate:
    made = Candidate(
        name=name,
        precision="fp32",
        accuracy=MASTER,
        disagreements=0,
        samples=360,
        latency_ms=ms,
        p95_ms=ms,
        size=1000,
        wire=1000,
        memory_mb=1.0,
    )
    return msgspec.structs.replace(made, **changes)


def profile(*names: str, latency: str = "measured") -> Profile:
    base = shipped_profiles()["x86-vnni"]
    recipes = [
        msgspec.structs.replace(base.baseline, name=name, steps=base.baseline.steps)
        for name in names
    ]
    objective = msgspec.structs.replace(base.objective, latency=latency)
    return msgspec.structs.replace(base, candidates=recipes, objective=objective)


@pytest.mark.parametrize(
    ("ms", "chosen"), [(0.5, "int8"), (0.79, "int8"), (0.81, "fp32"), (2.0, "fp32")]
)
def test_where_latency_is_measured_int8_must_be_clearly_faster(
    ms: float, chosen: str
) -> None:
    both = [candidate("int8", ms=ms), candidate("fp32")]
    found, why = choose(profile("int8", "fp32"), both, MASTER)
    assert found.name == chosen
    assert "faster" in why
    assert [one.name for one in both if one.chosen] == [chosen]
    assert all(one.verdict for one in both)


def test_between_the_fast_ones_fewest_bytes_on_the_wire_count() -> None:
    them = [
        candidate("int8", ms=0.50, size=300, wire=290),
        candidate("int4", ms=0.52, size=400, wire=80),
        candidate("fp32"),
    ]
    found, _ = choose(profile("int8", "int4", "fp32"), them, MASTER)
    assert found.name == "int4"
    assert them[0].verdict == "int4 is smaller"


def test_what_is_clearly_faster_counts_more_than_bytes() -> None:
    them = [
        candidate("int8", ms=0.3, wire=900),
        candidate("int4", ms=0.5, wire=80),
        candidate("fp32"),
    ]
    found, _ = choose(profile("int8", "int4", "fp32"), them, MASTER)
    assert found.name == "int8"


def test_where_latency_is_assumed_the_order_of_the_profile_counts() -> None:
    them = [candidate("int8", ms=5.0, size=300), candidate("fp32")]
    found, why = choose(profile("int8", "fp32", latency="assumed"), them, MASTER)
    assert found.name == "int8"
    assert "right for the profile" in why


def test_where_latency_is_assumed_what_is_not_smaller_gains_nothing() -> None:
    them = [candidate("int8", ms=0.5, size=1001), candidate("fp32")]
    found, why = choose(profile("int8", "fp32", latency="assumed"), them, MASTER)
    assert found.name == "fp32"
    assert "int8 is not smaller: 1001 bytes" in why


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy": MASTER - 0.021}, "loses 0.0210 of accuracy"),
        ({"disagreements": 30}, "on 30 of 360 samples"),
        ({"refused": "it does not load"}, "does not load"),
    ],
)
def test_a_candidate_out_of_its_budget_never_ships(
    changes: dict[str, object], words: str
) -> None:
    them = [candidate("int8", ms=0.1, **changes), candidate("fp32")]
    found, why = choose(profile("int8", "fp32"), them, MASTER)
    assert found.name == "fp32"
    assert words in them[0].verdict
    them[1].chosen = False
    found, why = choose(profile("int8", "fp32", latency="assumed"), them, MASTER)
    assert words in why


def test_few_samples_prove_little() -> None:
    """No disagreement in 20 samples still allows for 16 %."""
    them = [candidate("int8", ms=0.1, samples=20), candidate("fp32", samples=20)]
    with pytest.raises(ParityError, match=r"up to 0\.16"):
        choose(profile("int8", "fp32"), them, MASTER)


def test_few_samples_are_enough_for_what_computes_the_same() -> None:
    """The master itself, or what an opset made of it."""
    one = candidate("fp32", samples=20, distance=1e-6)
    found, _ = choose(profile("fp32"), [one], MASTER)
    assert found is one


def test_where_none_is_within_its_budget_the_profile_is_blocked_with_a_report() -> None:
    them = [candidate("int8", accuracy=0.5), candidate("fp32", accuracy=0.6)]
    with pytest.raises(ParityError) as caught:
        choose(profile("int8", "fp32"), them, MASTER)
    assert "int8 loses 0.4700" in caught.value.what
    assert "fp32 loses 0.3700" in caught.value.what
    assert "approver" in caught.value.hint


def test_an_approver_overrides_the_gate_and_nothing_else() -> None:
    them = [candidate("int8", accuracy=0.5), candidate("fp16", refused="broken")]
    them.append(candidate("fp32"))
    plan = profile("int8", "fp16", "fp32")
    found, why = choose(plan, them, MASTER, override="int8")
    assert found.name == "int8"
    assert "an approver let it pass: int8 loses 0.4700" in why
    with pytest.raises(ParityError, match="could not be built"):
        choose(plan, them, MASTER, override="fp16")


def test_the_front_holds_what_nothing_else_beats() -> None:
    them = [
        candidate("small", size=100, ms=2.0),
        candidate("fast", size=900, ms=0.5),
        candidate("worse", size=950, ms=2.5),
        candidate("fp32"),
    ]
    choose(profile("small", "fast", "worse", "fp32"), them, MASTER)
    assert {one.name for one in them if one.best} == {"small", "fast"}


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_what_was_seen(seen: tuple[int, int]) -> None:
    hits, samples = seen
    low, high = interval(hits, samples)
    assert 0.0 <= low <= hits / samples + 1e-12
    assert hits / samples - 1e-12 <= high <= 1.0


def test_the_interval_is_wilsons() -> None:
    low, high = interval(3, 360)
    assert (round(low, 5), round(high, 5)) == (0.00284, 0.02421)
    assert interval(0, 0) == (0.0, 1.0)
    assert float(Objective().disagreement) > interval(0, 60)[1]


def test_what_is_broken_on_golden_inputs_does_not_pass_the_gate() -> None:
    """Few labels show what a recogniser of text lost; how far its answers are off does."""
    objective = Objective(golden_distance="0.5")
    one = Candidate(
        name="int8", precision="int8", accuracy=0.9, disagreements=0, samples=500,
        distance=0.9, golden=0.51,
    )  # fmt: skip
    said = out_of_budget(one, 0.9, objective)
    assert "0.5100 of their length" in said
    assert "golden inputs" in said
    one.golden = 0.5
    assert out_of_budget(one, 0.9, objective) == ""
