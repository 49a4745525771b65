"""One slot as it is told to others: the report's row and the status' row, from one view.

Pure: everything is an argument.
"""

from dataclasses import dataclass

import msgspec
from msgspec import UNSET, UnsetType

from modelfleet_agent.errors import AgentError, HeldError
from modelfleet_agent.store import Record
from modelfleet_agent.supervisor.status import SlotStatus
from modelfleet_agent.update.phases import Phase
from modelfleet_agent.update.state import SlotState
from modelfleet_agent.update.work import Entry
from modelfleet_manifests.report import Running, SlotReport
from modelfleet_manifests.wanted import Action, Passed, Reason, Wanted

MAX_DETAIL = 200
MAX_NAME = 63
_WAITING = frozenset(
    {
        Reason.NO_ASSIGNMENT,
        Reason.WAITS_FOR_GROUP,
        Reason.WAITS_FOR_METADATA,
        Reason.WAITS_UNTIL,
        Reason.PAUSED,
        Reason.NOT_ADMITTED,
        Reason.EXPIRED,
    }
)
_FAILED = frozenset({Reason.NOT_ALLOWED, Reason.RECALLED_WAITS, Reason.AGENT_TOO_OLD})


@dataclass(frozen=True, slots=True)
class Checked:
    """What the files of the serving release hash to, read again.

    Attributes:
        key: `Record.key` of the release.
        digest: Of its files.
        intact: It is the signed one.
    """

    key: str
    digest: str
    intact: bool


@dataclass(frozen=True, slots=True)
class View:
    """All that is known of a slot at one moment.

    Attributes:
        wanted: The resolver's answer.
        entry: Of the journal.
        state: What the slot remembers.
        serving: What answers now.
        checked: Its files, as read last.
        failure: The last failure that is not made good yet.
        rotten: A file of the active release was found altered.
    """

    wanted: Wanted
    entry: Entry
    state: SlotState
    serving: Record | None
    checked: Checked | None
    failure: AgentError | None
    rotten: bool


@dataclass(frozen=True, slots=True)
class _Told:
    """What is said about what is wanted."""

    reason: str
    detail: str
    step: str | None
    wanted: str | None
    failures: int


def report_of(view: View) -> SlotReport:
    """Return the slot's row in a report."""
    told = _tell(view)
    return SlotReport(
        phase=view.entry.phase.value,
        action=view.wanted.action.value,
        reason=told.reason,
        detail=told.detail,
        step=told.step or UNSET,
        wanted=told.wanted or UNSET,
        begun=list(view.state.begun),
        running=_running(view),
        failures=told.failures,
        bytes=view.entry.bytes or view.state.bytes,
        method=view.entry.method if view.entry.bytes else view.state.method,
    )


def status_of(view: View) -> SlotStatus:
    """Return the slot's row in the status file."""
    told, running = _tell(view), _running(view)
    status = SlotStatus(
        state=_state(view, told),
        phase=view.entry.phase.value,
        action=view.wanted.action.value,
        reason=told.reason,
        detail=told.detail,
        wanted=told.wanted or "",
        failures=told.failures,
    )
    if not isinstance(running, Running):
        return status
    return msgspec.structs.replace(
        status,
        model=running.model,
        version=running.version,
        release=running.release,
        variant=running.variant,
        digest=running.digest,
        intact=running.intact,
    )


def name_of(code: str) -> str:
    """Return an error's code as a name for reports: `E_NO_SPACE` gives `no-space`."""
    return code.removeprefix("E_").lower().replace("_", "-")[:MAX_NAME] or "error"


def _running(view: View) -> Running | UnsetType:
    record = view.serving
    if record is None:
        return UNSET
    checked = view.checked if view.checked and view.checked.key == record.key else None
    return Running(
        release=record.release,
        model=record.model,
        version=record.version,
        variant=_variant(view, record),
        # a release was hashed as it was loaded: that counts until it is read again
        digest=checked.digest if checked else record.digest,
        intact=checked.intact if checked else True,
    )


def _variant(view: View, record: Record) -> str:
    goal, state = view.entry.goal, view.state
    if goal and goal.record.key == record.key:
        return goal.variant
    if state.current and state.current.key == record.key and state.variant:
        return state.variant
    return record.profile  # a previous one whose variant's name was not kept


def _tell(view: View) -> _Told:
    wanted, state = view.wanted, view.state
    failed = _quarantined(wanted)
    if failed:  # what the fleet wants of this device, and what it could not do
        last = next(
            (one for one in reversed(state.quarantine) if one.step == failed.step), None
        )
        why = f"{last.code}: {last.why}" if last else failed.detail
        count = last.failures if last else 0
        return _Told("quarantined", why[:MAX_DETAIL], failed.step, failed.release, count)
    release = wanted.release.id if wanted.release else None
    digest = wanted.variant.digest if wanted.variant else ""
    failures = state.failures(wanted.step, digest)
    if view.rotten:
        detail = "a file of the active release was altered; it is fetched again"
        if view.failure:
            detail = f"{detail}; {view.failure.what}"
        return _Told("bit-rot", detail[:MAX_DETAIL], wanted.step, release, failures)
    if view.failure and view.entry.phase in {Phase.IDLE, Phase.RESTORING, Phase.REMOVING}:
        reason, detail = name_of(view.failure.code), view.failure.what
        return _Told(reason, detail[:MAX_DETAIL], wanted.step, release, failures)
    detail = wanted.detail[:MAX_DETAIL]
    if wanted.reason is Reason.AS_WANTED and state.fell_back:
        detail = f"it came as a whole file: {state.fell_back}"[:MAX_DETAIL]
    if view.entry.drains and view.entry.phase is Phase.TRIAL:
        detail = "it does not fit in memory beside what ran: that is unloaded first"
    return _Told(wanted.reason.value, detail, wanted.step, release, failures)


def _quarantined(wanted: Wanted) -> Passed | None:
    return next((one for one in wanted.passed if one.reason is Reason.QUARANTINED), None)


def _state(view: View, told: _Told) -> str:
    if view.entry.phase is not Phase.IDLE:
        return "updating"
    is_held = isinstance(view.failure, HeldError)
    is_bad = view.rotten or told.reason == "quarantined" or view.wanted.reason in _FAILED
    if is_bad or (view.failure and not is_held):
        return "failed"
    if is_held:
        return "waiting"
    if view.wanted.action in {Action.INSTALL, Action.REMOVE}:
        return "updating"
    if view.wanted.reason in _WAITING:
        return "waiting"
    return "ok" if view.serving else "empty"
