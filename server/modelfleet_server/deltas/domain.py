"""A delta's life as a table, what is chosen for a budget, and what is swept. Pure."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from modelfleet_server.kit.errors import ConflictError
from modelfleet_server.kit.transitions import follow

ENCODED_PER_MS = 30_000
"""Bytes of a new file that one millisecond of CPU encodes: 3 s for 90 MB."""
LEAST_CPU_MS = 100


class State(StrEnum):
    """Where a delta is; stored, so never rename a value."""

    PLANNED = "planned"
    MADE = "made"
    DROPPED = "dropped"
    POSTPONED = "postponed"
    FAILED = "failed"


class Event(StrEnum):
    """What happens to it."""

    PLAN = "plan"
    MAKE = "make"
    DROP = "drop"
    POSTPONE = "postpone"
    FAIL = "fail"


MOVES: dict[tuple[State, Event], State] = {
    (State.PLANNED, Event.PLAN): State.PLANNED,
    (State.PLANNED, Event.MAKE): State.MADE,
    # not smaller than the packed file: the same files will give the same answer
    (State.PLANNED, Event.DROP): State.DROPPED,
    (State.PLANNED, Event.POSTPONE): State.POSTPONED,
    (State.PLANNED, Event.FAIL): State.FAILED,
    (State.POSTPONED, Event.PLAN): State.PLANNED,
    (State.FAILED, Event.PLAN): State.PLANNED,
}
OPEN = frozenset({State.PLANNED, State.POSTPONED})
"""What the next plan takes up by itself; what failed only where a person asks."""


class MoveError(ConflictError):
    """This cannot be done to a delta in this state."""

    code = "delta-state"


def after(state: State, event: Event) -> State:
    """Return the state that follows.

    Raises:
        MoveError: The pair is not in `MOVES`.
    """
    return follow(MOVES, state, event, what="a delta", error=MoveError)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A delta that could be made. Sizes in bytes.

    Attributes:
        new: SHA-256 of the file that it would make.
        old: SHA-256 of the file that devices run.
        devices: How many of them.
        size: Of the new file.
        whole: What a device fetches without a delta: the file, packed where that is less.
        estimate: Of the delta, by the codec.
    """

    new: str
    old: str
    devices: int
    size: int
    whole: int
    estimate: int

    @property
    def saving(self) -> int:
        """Bytes that all devices together need not fetch."""
        return (self.whole - self.estimate) * self.devices

    @property
    def cpu_ms(self) -> int:
        """CPU time that making it should take."""
        return max(LEAST_CPU_MS, self.size // ENCODED_PER_MS)


class Budget(NamedTuple):
    """What one plan may take: deltas, their bytes, and milliseconds of CPU."""

    deltas: int
    length: int
    cpu_ms: int

    def less(self, candidate: Candidate) -> "Budget":
        """Return what is left once a delta was made as expected; negative: too little."""
        return Budget(
            self.deltas - 1,
            self.length - candidate.estimate,
            self.cpu_ms - candidate.cpu_ms,
        )

    @property
    def is_spent(self) -> bool:
        """Something of it is below zero."""
        return min(self) < 0


class Choice(NamedTuple):
    """What becomes of candidates, each the largest saving first."""

    make: tuple[Candidate, ...]
    drop: tuple[Candidate, ...]
    postpone: tuple[Candidate, ...]


def rank(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates by what they save, most first; equal ones in a fixed order."""
    return sorted(candidates, key=lambda one: (-one.saving, one.new, one.old))


def choose(candidates: Iterable[Candidate], budget: Budget) -> Choice:
    """Choose what to make: the largest savings first, as far as the budget goes.

    One that does not fit any more makes room for smaller ones behind it.
    """
    make: list[Candidate] = []
    drop: list[Candidate] = []
    postpone: list[Candidate] = []
    for one in rank(candidates):
        left = budget.less(one)
        if one.estimate >= one.whole:
            drop.append(one)
        elif left.is_spent:
            postpone.append(one)
        else:
            make.append(one)
            budget = left
    return Choice(tuple(make), tuple(drop), tuple(postpone))


class Sized(Protocol):
    """What has a size in bytes."""

    @property
    def size(self) -> int:
        """In bytes."""


One = TypeVar("One", bound=Sized)


def split(ones: Iterable[One], *, count: int, length: int) -> Iterator[list[One]]:
    """Yield batches in order: of at most `count`, and of at most `length` bytes together.

    What is larger by itself is a batch of its own.
    """
    batch: list[One] = []
    for one in ones:
        full = len(batch) == count or sum(it.size for it in batch) + one.size > length
        if batch and full:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


class Held(NamedTuple):
    """A delta on offer, and when it was last of use, Unix ms."""

    new: str
    old: str
    needed_ms: int


class Needs(NamedTuple):
    """Digests of what devices run, and of what they may be told to run."""

    running: Collection[str]
    wanted: Collection[str]

    def include(self, held: Held) -> bool:
        """Say whether some device could use a delta now."""
        return held.old in self.running and held.new in self.wanted


def find_doomed(
    held: Iterable[Held], needs: Needs, *, now_ms: int, keep_ms: int
) -> list[Held]:
    """Return what nobody has needed for longer than `keep_ms`."""
    return [
        one for one in held if not needs.include(one) and now_ms - one.needed_ms > keep_ms
    ]
