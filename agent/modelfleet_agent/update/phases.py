"""One slot's update as data: phases, events, and the effect each phase asks for.

`step` is pure. `engine` persists the phase that it returns, then runs its effect, so a
power cut replays an effect and never skips one: every effect is idempotent.
"""

from enum import StrEnum
from typing import NamedTuple


class Phase(StrEnum):
    """Progress of an update; journalled and reported, so never rename a value."""

    IDLE = "idle"
    FETCHING = "fetching"
    PATCHING = "patching"
    TESTING = "testing"
    TRIAL = "trial"
    RESTORING = "restoring"
    REMOVING = "removing"


class Event(StrEnum):
    """What the supervisor wants, or what an effect reports."""

    WANTED = "wanted"  # files of the release have to be fetched
    PRESENT = "present"  # all its files are here, but it never passed a trial
    PROVEN = "proven"  # all its files are here, and it passed a trial before
    UNWANTED = "unwanted"  # the slot is to run nothing
    DONE = "done"
    FAILED = "failed"
    FALL_BACK = "fall-back"  # the delta was no good: once more, in full
    CANCELLED = "cancelled"  # something else is wanted by now


class Effect(StrEnum):
    """Work that the engine owes in a phase."""

    NOTHING = "nothing"
    FETCH = "fetch"
    PATCH = "patch"
    TEST = "test"
    SWITCH = "switch"
    RESTORE = "restore"
    REMOVE = "remove"


class Next(NamedTuple):
    """A move: the phase to journal and the effect to run after."""

    phase: Phase
    effect: Effect


_REST = Next(Phase.IDLE, Effect.NOTHING)

TABLE: dict[tuple[Phase, Event], Next] = {
    (Phase.IDLE, Event.WANTED): Next(Phase.FETCHING, Effect.FETCH),
    (Phase.IDLE, Event.PRESENT): Next(Phase.TESTING, Effect.TEST),
    (Phase.IDLE, Event.PROVEN): Next(Phase.TRIAL, Effect.SWITCH),
    (Phase.IDLE, Event.UNWANTED): Next(Phase.REMOVING, Effect.REMOVE),
    (Phase.FETCHING, Event.DONE): Next(Phase.PATCHING, Effect.PATCH),
    (Phase.FETCHING, Event.FAILED): _REST,
    (Phase.FETCHING, Event.CANCELLED): _REST,
    (Phase.PATCHING, Event.DONE): Next(Phase.TESTING, Effect.TEST),
    (Phase.PATCHING, Event.FALL_BACK): Next(Phase.FETCHING, Effect.FETCH),
    (Phase.PATCHING, Event.FAILED): _REST,
    (Phase.PATCHING, Event.CANCELLED): _REST,
    (Phase.TESTING, Event.DONE): Next(Phase.TRIAL, Effect.SWITCH),
    (Phase.TESTING, Event.FAILED): _REST,
    (Phase.TESTING, Event.CANCELLED): _REST,
    (Phase.TRIAL, Event.DONE): _REST,
    (Phase.TRIAL, Event.FAILED): Next(Phase.RESTORING, Effect.RESTORE),
    (Phase.TRIAL, Event.CANCELLED): Next(Phase.RESTORING, Effect.RESTORE),
    (Phase.RESTORING, Event.DONE): _REST,
    (Phase.RESTORING, Event.FAILED): Next(Phase.RESTORING, Effect.RESTORE),
    (Phase.REMOVING, Event.DONE): _REST,
    (Phase.REMOVING, Event.FAILED): Next(Phase.REMOVING, Effect.REMOVE),
}

# What a phase owes when it is found in the journal after a power cut.
OWED: dict[Phase, Effect] = {Phase.IDLE: Effect.NOTHING} | {
    move.phase: move.effect for move in TABLE.values()
}


def step(phase: Phase, event: Event) -> Next:
    """Return the move for `event`; one that means nothing here changes nothing."""
    return TABLE.get((phase, event), Next(phase, Effect.NOTHING))
