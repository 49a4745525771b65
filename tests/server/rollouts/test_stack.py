"""How the stack of steps of a slot may change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from tests.support.documents import hex_of, release_of, step_of

from modelfleet_manifests.admission import threshold
from modelfleet_manifests.deployment import MAX_STEPS, Paused, Step
from modelfleet_manifests.release import release_ref
from modelfleet_server.rollouts import stack
from modelfleet_server.rollouts.stack import StackError

V1 = release_of("1.0.0")
V2 = release_of("1.1.0", rollback_to=["1.0.0"])
LONELY = release_of("2.0.0")
KNOWN = {release_ref(one).id: one for one in (V1, V2, LONELY)}


def test_a_step_goes_on_top_if_it_can_be_undone() -> None:
    steps = stack.put_on_top([step_of(V1, 1)], step_of(V2, 2), KNOWN)
    assert [step.id for step in steps] == [hex_of(2, 32), hex_of(1, 32)]


def test_a_step_that_could_not_be_undone_is_refused() -> None:
    with pytest.raises(StackError, match=r"1\.0\.0"):
        stack.put_on_top([step_of(V1, 1)], step_of(LONELY, 2), KNOWN)


def test_undo_gives_the_stack_from_before() -> None:
    before = [step_of(V1, 1)]
    after = stack.put_on_top(before, step_of(V2, 2), KNOWN)
    assert stack.undo(after, hex_of(2, 32)) == before


def test_only_the_top_step_can_be_undone_and_never_the_only_one() -> None:
    steps = [step_of(V2, 2), step_of(V1, 1)]
    with pytest.raises(StackError, match="newer"):
        stack.undo(steps, hex_of(1, 32))
    with pytest.raises(StackError, match="only step"):
        stack.undo(steps[1:], hex_of(1, 32))


def test_a_ninth_step_drops_the_oldest_below_a_finished_one() -> None:
    steps = [step_of(V1, number, to="8" * 16) for number in range(MAX_STEPS)]
    with pytest.raises(StackError):
        stack.make_room(steps)
    finished = [stack.finish(steps[0]), *steps[1:]]
    assert stack.make_room(finished) == finished[:-1]


def test_pause_holds_and_resume_lets_go() -> None:
    step = step_of(V1, 1, to="8" * 16)
    assert stack.pause(step).begin == Paused()
    assert stack.resume(stack.pause(step)).begin is UNSET


def test_a_step_that_is_gone_cannot_be_changed() -> None:
    with pytest.raises(StackError, match="not in force"):
        stack.change([step_of(V1, 1)], hex_of(9, 32), stack.pause)


heights = st.one_of(st.just("all"), st.integers(0, 2**64 - 1).map(lambda n: hex_of(n, 16)))


@given(heights, heights, st.lists(st.sampled_from(["a" * 32, "b" * 32])))
def test_widening_never_admits_fewer(first: str, second: str, listed: list[str]) -> None:
    step: Step = step_of(V1, 1, to=first)
    wider = stack.widen(step, second, listed)
    assert threshold(wider.admit.to) >= threshold(step.admit.to)
    assert set(wider.admit.enrolments) >= set(step.admit.enrolments) | set(listed)
