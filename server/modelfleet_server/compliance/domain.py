"""The eight states of compliance, what each means to a person, which is worst. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Compliance(StrEnum):
    """A device is in exactly one of these."""

    COMPLIANT = "compliant"
    WAITING = "waiting"
    UPDATING = "updating"
    FAILED = "failed"
    DRIFTED = "drifted"
    REVOKED = "revoked"
    STALE = "stale"
    UNKNOWN = "unknown"


# Worst first: a device with several slots is in the worst state of them.
ORDER = (
    Compliance.REVOKED,
    Compliance.DRIFTED,
    Compliance.FAILED,
    Compliance.STALE,
    Compliance.UNKNOWN,
    Compliance.UPDATING,
    Compliance.WAITING,
    Compliance.COMPLIANT,
)

NEXT = {
    Compliance.COMPLIANT: "Nothing to do.",
    Compliance.WAITING: "Nothing to do here: the device begins when its turn comes.",
    Compliance.UPDATING: "Leave it powered and connected.",
    Compliance.FAILED: "It went back to the model before and tries again by itself. "
    "If it fails again, tell the fleet operator.",
    Compliance.DRIFTED: "Leave it connected: it fetches the right file again by itself. "
    "If it stays so, take it out of service.",
    Compliance.REVOKED: "Take it out of service until it runs another model.",
    Compliance.STALE: "Check power and network, then look at the agent on the device.",
    Compliance.UNKNOWN: "Enrol the device, or start its agent.",
}
"""What a technician in front of the device is to do."""


@dataclass(frozen=True, slots=True)
class SlotFinding:
    """One slot of a device: its state and the reason."""

    slot: str
    state: Compliance
    reason: str


def worst(findings: Iterable[SlotFinding]) -> SlotFinding | None:
    """Return the finding that decides for the device."""
    return min(findings, key=lambda one: ORDER.index(one.state), default=None)
