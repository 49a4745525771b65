"""What the device remembers of one slot for good: one small file of two pages.

It is what the resolver is told (`wanted.Local`) beyond what runs and what is on disk, so
losing it would allow a downgrade or begin a paused step anew.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.journal import Pages, read_value
from modelfleet_agent.store.record import Record
from modelfleet_agent.update.policy import QUARANTINE, Backoff, Rng

PAGE = 1 << 16
MAX_BEGUN = 64  # what a report holds
MAX_RELEASES = 200
MAX_QUARANTINED = 16
MAX_WHY = 200


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """A variant that failed under a step, and until when it is not tried again.

    Attributes:
        step: Step id; "" for a pin.
        digest: Of the variant.
        failures: How often it failed under this step.
        since: When it failed last, Unix ms of the device's clock.
        until: When it may be tried again.
        code: `E_…`, of the last failure.
        why: In words.
    """

    step: str
    digest: str
    failures: int
    since: int
    until: int
    code: str
    why: str

    def holds(self, now: int) -> bool:
        """Say whether it still counts; a clock that was set back does not prolong it."""
        return self.since <= now < self.until


class SlotState(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a slot; newest entries last.

    Attributes:
        current: The release that the slot's link `current` names, to write its record
            again should that be damaged.
        variant: Name of its variant.
        step: The step that it was activated under, or None.
        since: When that was, Unix ms of the device's clock.
        begun: Ids of steps begun.
        ran: Releases that were activated here.
        proven: Releases that ran here to the end of a trial.
        passed: In which variants: keys of their records.
        quarantine: What failed here.
        bytes: Fetched for the last update.
        method: How they came: `none`, `full`, `packed` or `delta`.
        fell_back: Why they came whole though a delta was offered; "" where none was bad.
    """

    current: Record | None = None
    variant: str = ""
    step: str | None = None
    since: int = 0
    begun: tuple[str, ...] = ()
    ran: tuple[str, ...] = ()
    proven: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()
    bytes: int = 0
    method: str = "none"
    fell_back: str = ""

    def begin(self, step: str | None) -> Self:
        """Return the memory once `step` has begun."""
        if step is None:
            return self
        return msgspec.structs.replace(self, begun=_append(self.begun, step, MAX_BEGUN))

    def run(self, release: str) -> Self:
        """Return the memory once `release` was activated."""
        return msgspec.structs.replace(self, ran=_append(self.ran, release, MAX_RELEASES))

    def prove(self, release: str) -> Self:
        """Return the memory once `release` passed its trial; it did run, too."""
        proven = _append(self.proven, release, MAX_RELEASES)
        return msgspec.structs.replace(self.run(release), proven=proven)

    def prove_variant(self, record: Record) -> Self:
        """Return the memory once a release passed its trial in one variant."""
        passed = _append(self.passed, record.key, MAX_RELEASES)
        return msgspec.structs.replace(self.prove(record.release), passed=passed)

    def is_proven(self, record: Record) -> bool:
        """Say whether a release passed a trial here in this variant."""
        others = [key for key in self.passed if key.startswith(f"{record.release}.")]
        return record.release in self.proven and (not others or record.key in others)

    def failures(self, step: str | None, digest: str) -> int:
        """Return how often a variant failed under a step."""
        return sum(
            one.failures
            for one in self.quarantine
            if (one.step, one.digest) == (step or "", digest)
        )

    def quarantined(self, now: int) -> frozenset[tuple[str, str]]:
        """Return what must not be tried at `now`: pairs of step id and variant digest."""
        return frozenset(
            (one.step, one.digest) for one in self.quarantine if one.holds(now)
        )

    def clear(self, digest: str) -> Self:
        """Return the memory without failures of a variant: it proved itself."""
        left = tuple(one for one in self.quarantine if one.digest != digest)
        return msgspec.structs.replace(self, quarantine=left)


@dataclass(frozen=True, slots=True)
class Failure:
    """A release that failed here.

    Attributes:
        step: The step it was tried under, or None.
        digest: Of the variant.
        code: `E_…`.
        why: In words.
    """

    step: str | None
    digest: str
    code: str
    why: str


def quarantine(
    state: SlotState, failure: Failure, now: int, rng: Rng, backoff: Backoff = QUARANTINE
) -> SlotState:
    """Return the memory after a failure: each one in a row is waited for longer."""
    failures = state.failures(failure.step, failure.digest) + 1
    step = failure.step or ""
    entry = Quarantined(
        step=step,
        digest=failure.digest,
        failures=failures,
        since=now,
        until=now + backoff.wait_ms(failures, rng),
        code=failure.code,
        why=failure.why[:MAX_WHY],
    )
    others = [
        one for one in state.quarantine if (one.step, one.digest) != (step, failure.digest)
    ]
    kept = (*others, entry)[-MAX_QUARANTINED:]
    return msgspec.structs.replace(state, quarantine=kept)


def _append(entries: tuple[str, ...], entry: str, most: int) -> tuple[str, ...]:
    return (*(one for one in entries if one != entry), entry)[-most:]


class StateFile:
    """The file of one slot; what it holds is kept in memory, too."""

    def __init__(self, folder: Path, slot: str) -> None:
        """Read `<folder>/<slot>`; one that is missing is an empty memory."""
        self._pages = Pages(fsio.private_dir(folder) / slot, size=PAGE)
        self.state = read_value(self._pages, SlotState, SlotState())

    def save(self, state: SlotState) -> None:
        """Make `state` what the slot remembers, durably. Nothing is written twice.

        Raises:
            RetryableError: The disk does not take it; what was remembered stays.
        """
        if state != self.state:
            self._pages.write(msgspec.json.encode(state))
            self.state = state
