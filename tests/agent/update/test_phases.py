"""The table of an update, quantified over."""

from itertools import product

import pytest

from modelfleet_agent.update.engine import EFFECTS
from modelfleet_agent.update.phases import OWED, TABLE, Effect, Event, Next, Phase, step

BEGINS = {Event.WANTED, Event.PRESENT, Event.PROVEN, Event.UNWANTED}
WORKING = sorted(set(Phase) - {Phase.IDLE})


@pytest.mark.parametrize(
    ("phase", "event"), sorted(set(product(Phase, Event)) - set(TABLE))
)
def test_an_event_that_means_nothing_here_changes_nothing(
    phase: Phase, event: Event
) -> None:
    assert step(phase, event) == Next(phase, Effect.NOTHING)


def test_from_every_phase_idle_can_be_reached() -> None:
    reaches = {Phase.IDLE}
    while more := {p for (p, _), move in TABLE.items() if move.phase in reaches} - reaches:
        reaches |= more
    assert reaches == set(Phase)


def test_every_phase_can_be_reached_from_idle() -> None:
    reached = {Phase.IDLE}
    while more := {m.phase for (p, _), m in TABLE.items() if p in reached} - reached:
        reached |= more
    assert reached == set(Phase)


@pytest.mark.parametrize("phase", WORKING)
def test_every_phase_that_works_ends_on_done_and_on_failed(phase: Phase) -> None:
    assert (phase, Event.DONE) in TABLE
    assert (phase, Event.FAILED) in TABLE


@pytest.mark.parametrize("phase", WORKING)
def test_a_phase_always_owes_the_same_effect_so_that_the_journal_needs_only_the_phase(
    phase: Phase,
) -> None:
    assert {move.effect for move in TABLE.values() if move.phase is phase} == {OWED[phase]}


def test_rest_owes_nothing() -> None:
    assert {m.effect for m in TABLE.values() if m.phase is Phase.IDLE} == {Effect.NOTHING}
    assert OWED[Phase.IDLE] is Effect.NOTHING


def test_every_effect_has_its_work() -> None:
    assert set(EFFECTS) == set(Effect) - {Effect.NOTHING}


@pytest.mark.parametrize("event", [Event.FAILED, Event.CANCELLED])
def test_once_the_pointer_may_have_moved_only_restoring_gives_up(event: Event) -> None:
    assert step(Phase.TRIAL, event) == Next(Phase.RESTORING, Effect.RESTORE)


@pytest.mark.parametrize("phase", [Phase.RESTORING, Phase.REMOVING])
def test_what_must_end_is_tried_again_and_never_cancelled(phase: Phase) -> None:
    assert step(phase, Event.FAILED) == Next(phase, OWED[phase])
    assert (phase, Event.CANCELLED) not in TABLE


def test_only_rest_begins_something() -> None:
    assert {phase for phase, event in TABLE if event in BEGINS} == {Phase.IDLE}


def test_a_bad_delta_costs_one_more_download_and_nothing_else() -> None:
    assert {phase for phase, event in TABLE if event is Event.FALL_BACK} == {Phase.PATCHING}
    assert step(Phase.PATCHING, Event.FALL_BACK).phase is Phase.FETCHING
