"""The inbox: verify, then parse, then order; what holds is on disk before it counts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.document import NotUnderstood
from modelfleet_manifests.report import Held
from modelfleet_manifests.wanted import Documents

Document = Assignment | Deployment | NotUnderstood


@dataclass(frozen=True, slots=True)
class Accepted:
    """Verified, newer than what was held, and stored: it counts from now on."""

    topic: str
    document: Document


@dataclass(frozen=True, slots=True)
class Same:
    """Nothing changes: the document that is held, or an empty payload."""

    topic: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Dropped; the held document stays in force."""

    topic: str
    code: str
    why: str


@dataclass(frozen=True, slots=True)
class NeedsMetadata:
    """Of a newer epoch than is known: kept until `recheck` after a metadata refresh."""

    topic: str
    epoch: int


Outcome = Accepted | Same | Refused | NeedsMetadata


class Inbox:
    """The documents of the director that this device holds. Used by one thread."""

    def __init__(
        self, directory: Path, enrolment: Enrolment, trust: Callable[[], TrustState]
    ) -> None:
        """Load and verify again what `directory`/documents holds.

        Args:
            directory: Of the agent.
            enrolment: Whom documents must be addressed to.
            trust: Gives the current verified metadata (`TrustDoor.load`).
        """
        raise NotImplementedError

    def receive(self, topic: str, payload: bytes) -> Outcome:
        """Judge what came by `topic`: an assignment or a deployment.

        Raises:
            RetryableError: The disk is in the way; the document that was held still holds.
        """
        raise NotImplementedError

    def recheck(self) -> list[Outcome]:
        """Judge again after a metadata refresh: what waited, and what is held.

        A held document whose director key is gone is dropped (`Refused`).
        """
        raise NotImplementedError

    def documents(self) -> Documents:
        """Return what is held, as the resolver takes it."""
        raise NotImplementedError

    def held(self) -> Mapping[str, Held]:
        """Return order and digest of what is held, by topic, as reports carry it."""
        raise NotImplementedError

    def groups(self) -> frozenset[str]:
        """Return the ids of the groups that the held assignment names."""
        raise NotImplementedError

    @property
    def nonce(self) -> str:
        """Of the held assignment; 32 zeros before the first."""
        raise NotImplementedError
