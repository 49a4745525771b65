"""What becomes of a document that arrives: data, since messages are no errors."""

from dataclasses import dataclass

from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.document import NotUnderstood

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
