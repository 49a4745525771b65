"""The resolver's vocabulary: what it is told of a device, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.document import NotUnderstood
from modelfleet_manifests.recalls import Subject
from modelfleet_manifests.release import ReleaseRef, Variant


class Action(StrEnum):
    """What the device is to do with a slot."""

    KEEP = "keep"
    INSTALL = "install"
    REMOVE = "remove"
    STOP = "stop"


class Reason(StrEnum):
    """Why; stable, since operators search for it."""

    AS_WANTED = "as-wanted"
    NEW_RELEASE = "new-release"
    NEW_VARIANT = "new-variant"
    NO_ASSIGNMENT = "no-assignment"
    UNMANAGED = "unmanaged"
    HELD = "held"
    REMOVED = "removed"
    WAITS_FOR_GROUP = "waits-for-group"
    WAITS_FOR_METADATA = "waits-for-metadata"
    WAITS_UNTIL = "waits-until"
    PAUSED = "paused"
    NOT_ADMITTED = "not-admitted"
    QUARANTINED = "quarantined"
    NOT_ALLOWED = "not-allowed"
    RECALLED = "recalled"
    RECALLED_WAITS = "recalled-waits"
    AGENT_TOO_OLD = "agent-too-old"
    EXPIRED = "expired"


class Hold(StrEnum):
    """Why a device waits by its own operator's settings; stable, as `Reason` is.

    No words of the resolver: a report gives one as its reason while it wants to install.
    """

    WINDOW = "waits-for-window"
    BUDGET = "waits-for-budget"
    LINK = "waits-for-link"
    TURN = "waits-for-turn"


@dataclass(frozen=True, slots=True)
class Passed:
    """A step that was passed over, and why."""

    step: str
    release: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The answer for one slot.

    Attributes:
        action: What to do.
        reason: Why.
        detail: In words, with the numbers.
        release: What is to run, where that is known.
        variant: As which variant; None where the slot keeps what it has.
        step: Id of the deciding step.
        passed: Newer steps that were passed over.
    """

    action: Action
    reason: Reason
    detail: str = ""
    release: ReleaseRef | None = None
    variant: Variant | None = None
    step: str | None = None
    passed: tuple[Passed, ...] = ()


@dataclass(frozen=True, slots=True)
class Local:
    """What the device itself knows of one slot.

    Attributes:
        release: Id of the release that runs, or None.
        digest: Of the variant that runs.
        model: Whose release runs; empty where none does.
        version: Of the release that runs.
        files: Digests of the files that run.
        ran: Releases that this device ran, oldest first.
        present: Releases whose files are on disk, verified.
        proven: Releases that ran to the end of a trial.
        begun: Ids of steps begun.
        quarantine: (step id, variant digest) whose backoff has not ended.
    """

    release: str | None = None
    digest: str | None = None
    model: str = ""
    version: str = ""
    files: frozenset[str] = frozenset()
    ran: tuple[str, ...] = ()
    present: frozenset[str] = frozenset()
    proven: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()
    quarantine: frozenset[tuple[str, str]] = frozenset()

    @property
    def subject(self) -> Subject | None:
        """What a recall looks at, where something runs."""
        if self.release is None:
            return None
        names = {self.release, *self.files, *({self.digest} if self.digest else ())}
        return Subject(self.model, self.version, frozenset(names))


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents that the device holds, verified and addressed to it."""

    assignment: Assignment | NotUnderstood | None = None
    deployments: Mapping[str, Deployment | NotUnderstood] = field(default_factory=dict)
