"""Pure rules of enrolment, membership and report chains."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey


class DeviceState(StrEnum):
    """Whether a device belongs to the fleet."""

    ENROLLED = "enrolled"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Claimant:
    """A group that governs a slot of a device it has among its members.

    Attributes:
        group: Group id.
        name: Human name; settles equal priorities, the lower one first.
        priority: The higher one governs.
    """

    group: str
    name: str
    priority: int


def choose_governor(claimants: Iterable[Claimant]) -> Claimant | None:
    """Return which of several groups governs a slot: priority, then name.

    Settled here, once, so that devices never rank groups.
    """
    return min(claimants, key=lambda one: (-one.priority, one.name), default=None)


def proof_message(token: str, public_key: str) -> bytes:
    """Return what a device signs to show that it has the key it enrols.

    Args:
        token: The claim token, as text; it is used once, so the proof is fresh.
        public_key: 64 hexadecimal digits.
    """
    digest = hashlib.sha256(token.encode()).digest()
    return b"mf-enrol-1" + digest + bytes.fromhex(public_key)


def proves(token: str, public_key: str, proof: str) -> bool:
    """Say whether `proof` (hexadecimal) was made with the private key, for this token."""
    try:
        PublicKey(public_key).verify(proof_message(token, public_key), bytes.fromhex(proof))
    except (ManifestError, ValueError):
        return False
    return True


class Arrival(StrEnum):
    """How a report relates to those before it."""

    NEXT = "next"
    REPEATED = "repeated"
    GAP = "gap"
    FORK = "fork"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class ChainHead:
    """The last report of a device that was taken in."""

    incarnation: int
    seq: int
    digest: str


def classify(head: ChainHead, incarnation: int, seq: int, prev: str) -> Arrival:
    """Return how a report with these numbers continues the chain that ends in `head`.

    A gap is taken in and noted: the device is the one that lost something, and what it says
    now is still true. A fork (the next number on another past) is a cloned device.
    """
    if incarnation != head.incarnation:
        return Arrival.FOREIGN
    if seq <= head.seq:
        return Arrival.REPEATED
    if seq > head.seq + 1:
        return Arrival.GAP
    return Arrival.NEXT if prev == head.digest else Arrival.FORK
