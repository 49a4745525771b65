"""How states look and how numbers read. Pure.

A state is a word, a shape, a tone and a fixed place, so that nobody has to tell colours
apart. Tones are those that a technician reads from two metres (findings: contrast at least
7.5:1, green against red distinct for every kind of colour vision).
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from modelfleet_server.builds.domain import State as BuildState
from modelfleet_server.catalog.domain import State as VersionState
from modelfleet_server.compliance.domain import Compliance
from modelfleet_server.jobs.domain import State as JobState
from modelfleet_server.rollouts.domain import State
from modelfleet_server.rollouts.gate import Outcome

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000


@dataclass(frozen=True, slots=True)
class Look:
    """A word, the id of a shape in `shapes.html`, and the name of a tone in the CSS."""

    word: str
    shape: str
    tone: str


COMPLIANCE = {
    Compliance.COMPLIANT: Look("compliant", "check", "good"),
    Compliance.WAITING: Look("waiting", "clock", "plain"),
    Compliance.UPDATING: Look("updating", "turn", "plain"),
    Compliance.FAILED: Look("failed", "cross", "bad"),
    Compliance.DRIFTED: Look("drifted", "differs", "warn"),
    Compliance.REVOKED: Look("revoked", "barred", "bad"),
    Compliance.STALE: Look("stale", "glass", "warn"),
    Compliance.UNKNOWN: Look("unknown", "question", "act"),
}
"""In the order in which they are always shown."""

ROLLOUT = {
    State.DRAFT: Look("draft", "pen", "plain"),
    State.PREPARING: Look("preparing", "clock", "plain"),
    State.RUNNING: Look("running", "turn", "plain"),
    State.PAUSED: Look("paused", "pause", "warn"),
    State.HALTED: Look("halted", "cross", "bad"),
    State.DONE: Look("done", "check", "good"),
    State.UNDONE: Look("undone", "back", "plain"),
}

JOB = {
    JobState.QUEUED: Look("waiting", "clock", "plain"),
    JobState.RUNNING: Look("running", "turn", "plain"),
    JobState.DONE: Look("done", "check", "good"),
    JobState.FAILED: Look("failed", "cross", "bad"),
    JobState.CANCELLED: Look("cancelled", "barred", "plain"),
}

BUILD = {
    BuildState.QUEUED: Look("building", "turn", "plain"),
    BuildState.AWAITING: Look("waits for devices", "clock", "plain"),
    BuildState.DONE: Look("built", "check", "good"),
    BuildState.FAILED: Look("failed", "cross", "bad"),
}

VERSION = {
    VersionState.BUILDING: Look("building", "turn", "plain"),
    VersionState.BUILT: Look("built", "check", "plain"),
    VersionState.PROPOSED: Look("proposed", "clock", "plain"),
    VersionState.RELEASED: Look("released", "check", "good"),
    VersionState.REVOKED: Look("revoked", "barred", "bad"),
    VersionState.FAILED: Look("failed", "cross", "bad"),
}

GATE = {
    Outcome.PENDING: Look("undecided", "clock", "plain"),
    Outcome.PASS: Look("passed", "check", "good"),
    Outcome.BREACH: Look("breached", "cross", "bad"),
    Outcome.NOT_ENOUGH: Look("not enough evidence", "question", "warn"),
}


def age(then_ms: int, now_ms: int) -> str:
    """Return how long ago something was, in one unit; `live.js` counts on the same way."""
    if then_ms == 0:
        return "never"
    passed = max(now_ms - then_ms, 0)
    for unit, length in (("d", DAY), ("h", HOUR), ("min", MINUTE)):
        if passed >= length:
            return f"{passed // length} {unit}"
    return f"{passed // SECOND} s"


def iso(at_ms: int) -> str:
    """Return a moment in UTC, to the second; nothing for never."""
    if at_ms == 0:
        return ""
    moment = datetime.fromtimestamp(at_ms // SECOND, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(at_ms: int) -> str:
    """Return the time of day in UTC."""
    return f"{iso(at_ms)[11:19]} UTC"


def count(number: int, one: str = "device", many: str = "devices") -> str:
    """Return a number with its noun: `1 device`, `1,900 devices`."""
    return f"{number:,} {one if number == 1 else many}"


def size(count: float) -> str:
    """Return bytes in the unit that suits them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:  # noqa: PLR2004
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def points(share: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return f"{share * 100:+.1f}".replace("-", "\N{MINUS SIGN}")


def short(digest: str) -> str:
    """Return the beginning of a digest; enough to compare two by eye."""
    return f"{digest[:8]}\N{HORIZONTAL ELLIPSIS}" if digest else ""
