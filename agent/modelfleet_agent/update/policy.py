"""How long to wait, when trust metadata is asked for again, what may follow a bad delta.

Pure: the caller gives the random numbers and the time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

Rng = Callable[[], float]
"""Returns a number in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first_ms` up to `most_ms`, both in milliseconds.

    Attributes:
        jitter: The share of a wait that is drawn at random: 1 is full jitter, which
            spreads a fleet best; less where a wait must not be (nearly) nothing.
    """

    first_ms: int
    most_ms: int
    jitter: float = 1.0

    def wait_ms(self, failures: int, rng: Rng) -> int:
        """Return how long to wait after the `failures`-th failure in a row (from 1)."""
        # 2**40 is beyond any `most_ms`; an unbounded exponent would be a huge integer
        ceiling = min(self.most_ms, self.first_ms << min(max(failures, 1) - 1, 40))
        return int(ceiling * (1 - self.jitter * rng()))


# The world was in the way: a second at first, a quarter of an hour at most.
RETRY = Backoff(first_ms=1_000, most_ms=900_000)
# The release failed here. Trying again needs a reason to hope, so: minutes, up to a day.
QUARANTINE = Backoff(first_ms=60_000, most_ms=86_400_000, jitter=0.5)
# Metadata that is not listed yet is usually a matter of seconds.
METADATA = Backoff(first_ms=500, most_ms=300_000)


class Fallback(StrEnum):
    """When a whole file may follow a delta that is of no use; an operator's word."""

    NEVER = "never"
    WIFI = "wifi"  # only over an interface that costs nothing by the byte
    ALWAYS = "always"


def may_fall_back(policy: Fallback, *, unmetered: bool) -> bool:
    """Say whether the whole file may be fetched now."""
    return policy is Fallback.ALWAYS or (policy is Fallback.WIFI and unmetered)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known about the trust metadata, in Unix milliseconds.

    Attributes:
        refreshed: Of the last refresh that succeeded; 0 before the first.
        expires: When the earliest role expires; 0 before the first refresh.
        failures: Refreshes in a row that failed, or did not bring what is needed.
        tried: When the last one ended; 0 before the first.
    """

    refreshed: int = 0
    expires: int = 0
    failures: int = 0
    tried: int = 0


def metadata_due(metadata: Metadata, *, needed: bool, wait_ms: int, now: int) -> bool:
    """Say whether metadata is to be fetched now.

    It is where a document needs what is not known, or at two thirds of its life; never
    merely because there is newer metadata.

    Args:
        metadata: What is known about it.
        needed: A document names a release, a minimum or an epoch that is not known.
        wait_ms: The backoff drawn after the last failure (`METADATA`).
        now: Unix ms.
    """
    # A clock that was set back must not silence the device until it catches up.
    waits = metadata.failures > 0 and 0 <= now - metadata.tried < wait_ms
    if waits:
        return False
    return needed or now >= refresh_at(metadata)


def refresh_at(metadata: Metadata) -> int:
    """Return when two thirds of the metadata's life are over, Unix ms."""
    life = max(metadata.expires - metadata.refreshed, 0)
    return metadata.refreshed + life * 2 // 3
