"""Who may run a step, and when an admitted device begins. Integers only.

Floating-point shares never admit the last device, so thresholds are 64-bit integers; and
the salt is drawn after the enrolment ids are fixed, so nobody can choose a low bucket.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from modelfleet_manifests.deployment import ALL, Admit, Paused, Spread

EVERYONE = 2**64


class Due(StrEnum):
    """Whether an admitted device begins."""

    NOW = "now"
    LATER = "later"
    PAUSED = "paused"


class Start(NamedTuple):
    """When a device begins: `at` in Unix ms, 0 for at once."""

    due: Due
    at: int


class Admission(NamedTuple):
    """Thresholds planned for a number of devices, and whom they admit."""

    to: str
    members: tuple[str, ...]


def bucket(salt: str, enrolment: str) -> int:
    """Return the 64-bit bucket of a device: SHA-256("mf-admit-1" || salt || enrolment)."""
    data = b"mf-admit-1" + bytes.fromhex(salt) + bytes.fromhex(enrolment)
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def threshold(text: str) -> int:
    """Return a threshold as an integer; `all` is 2^64."""
    return EVERYONE if text == ALL else int(text, 16)


def admits(admit: Admit, enrolment: str, labels: Mapping[str, str]) -> bool:
    """Say whether a device may run a step."""
    if bucket(admit.salt, enrolment) < threshold(admit.to) or enrolment in admit.enrolments:
        return True
    return bool(admit.labels) and all(
        labels.get(key) == value for key, value in admit.labels.items()
    )


def starts(
    begin: Paused | Spread | UnsetType, admit: Admit, enrolment: str, now: int
) -> Start:
    """Return when an admitted device begins a step.

    Args:
        begin: The step's `begin`.
        admit: The step's `admit`.
        enrolment: The device's enrolment id.
        now: The device's time, Unix ms.
    """
    if begin is UNSET:
        return Start(Due.NOW, 0)
    if isinstance(begin, Paused):
        return Start(Due.PAUSED, 0)
    assert isinstance(begin, Spread)  # noqa: S101 - for the type checker; UNSET is gone
    at = _start_of(begin, bucket(admit.salt, enrolment), threshold(admit.to))
    return Start(Due.NOW if at <= now else Due.LATER, at)


def _start_of(begin: Spread, place: int, end: int) -> int:
    first = threshold(begin.from_)
    if place < first:
        return 0
    if place >= end:  # listed or labelled
        return begin.start
    return begin.start + (place - first) * (begin.end - begin.start) // (end - first)


def plan_admission(
    salt: str, members: Sequence[str], count: int, *, apart: Collection[str] = ()
) -> Admission:
    """Return the threshold that admits exactly `count` of `members`.

    Args:
        salt: Of the rollout, 32 hexadecimal digits.
        members: Enrolment ids of the group at planning time.
        count: How many to admit by bucket; all or more of them gives `all`.
        apart: Enrolment ids that are listed or labelled: admitted anyway, not counted.
    """
    places = sorted((bucket(salt, one), one) for one in set(members) - set(apart))
    if count >= len(places):
        return Admission(ALL, tuple(one for _, one in places))
    return Admission(
        f"{places[max(count, 0)][0]:016x}", tuple(one for _, one in places[: max(count, 0)])
    )
