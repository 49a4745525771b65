"""Who complies, who does not, and why."""

from dataclasses import dataclass
from itertools import groupby

from sqlmodel import Session

from modelfleet_server.catalog.service import releases_by_id
from modelfleet_server.compliance import store
from modelfleet_server.compliance.domain import (
    NEXT,
    Compliance,
    SlotFinding,
    worst,
)
from modelfleet_server.compliance.store import Row
from modelfleet_server.devices.enrolment import find_device
from modelfleet_server.devices.groups import find_group
from modelfleet_server.evidence.domain import explain


@dataclass(frozen=True, slots=True)
class Verdict:
    """A device: its one state, the reason, and what to do next."""

    device: str
    profile: str
    state: Compliance
    reason: str
    next: str
    reported_ms: int
    slots: tuple[Row, ...]
    wants: str
    runs: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Devices per state; they are exclusive and sum up to `total`."""

    total: int
    counts: dict[Compliance, int]


def overview(session: Session, group: str | None, *, now_ms: int) -> Overview:
    """Return how many devices are in each state.

    Raises:
        NotFoundError: There is no such group.
    """
    found = find_group(session, group) if group else None
    counts = store.count_states(session, now_ms, found)
    return Overview(sum(counts.values()), counts)


def verdicts(
    session: Session,
    *,
    now_ms: int,
    group: str | None = None,
    state: Compliance | None = None,
    after: str = "",
    limit: int = 100,
) -> list[Verdict]:
    """Return devices by id, each with its state.

    Raises:
        NotFoundError: There is no such group.
    """
    found = find_group(session, group) if group else None
    rows = store.list_rows(
        session, now_ms, group=found, state=state, after=after, limit=limit
    )
    return _verdicts(session, rows)


def verdict_of(session: Session, device_id: str, *, now_ms: int) -> Verdict:
    """Return one device's state.

    Raises:
        NotFoundError: There is no such device.
    """
    device = find_device(session, device_id)
    rows = store.list_rows(session, now_ms, device=device.id)
    if not rows:
        return Verdict(
            device.id, device.profile, Compliance.UNKNOWN, f"The device is {device.state}.",
            NEXT[Compliance.UNKNOWN], device.reported_ms, (), "", "",
        )  # fmt: skip
    return _verdicts(session, rows)[0]


def _verdicts(session: Session, rows: list[Row]) -> list[Verdict]:
    releases = releases_by_id(session, sorted({row.wanted for row in rows if row.wanted}))
    names = {one: f"{release.version}" for one, release in releases.items()}
    return [
        _verdict(list(them), names)
        for _device, them in groupby(rows, key=lambda row: row.device)
    ]


def _verdict(rows: list[Row], names: dict[str, str]) -> Verdict:
    findings = [SlotFinding(row.slot, row.state, _reason(row, names)) for row in rows]
    decides = worst(findings)
    assert decides is not None  # noqa: S101 - a device has at least one row
    row = rows[findings.index(decides)]
    return Verdict(
        device=row.device,
        profile=row.profile,
        state=decides.state,
        reason=decides.reason,
        next=NEXT[decides.state],
        reported_ms=row.reported_ms,
        slots=tuple(rows),
        wants=names.get(row.wanted, row.version if row.reason == "as-wanted" else ""),
        runs=row.version,
    )


PLAIN = {
    Compliance.UNKNOWN: "It has never reported.",
    Compliance.STALE: "It has been silent.",
    Compliance.REVOKED: "Runs {model} {version}, which was revoked.",
    Compliance.DRIFTED: "The file it runs is not the file that was signed.",
    Compliance.UPDATING: "{phase}: {detail}.",
}


def _reason(row: Row, names: dict[str, str]) -> str:
    if row.state in PLAIN:
        return PLAIN[row.state].format(
            model=row.model,
            version=row.version,
            phase=row.phase.capitalize() or "Updating",
            detail=row.detail or "an update is under way",
        )
    if row.state is Compliance.WAITING and row.reason in {"as-wanted", ""}:
        return "Has not heard of the newest order yet."
    return explain(row.reason, row.detail, names.get(row.wanted, ""))
