"""The technician's page as plain data: one colour, one word, the reason, the next step."""

import json
from dataclasses import dataclass

from sqlmodel import Session

from modelfleet_manifests.profiles import best_variant, read_facts
from modelfleet_manifests.release import Release
from modelfleet_server.catalog.service import releases_by_id
from modelfleet_server.compliance import service as compliance
from modelfleet_server.compliance.domain import Compliance
from modelfleet_server.compliance.store import Row
from modelfleet_server.console import words
from modelfleet_server.devices.enrolment import find_device
from modelfleet_server.devices.tables import Device

OFFLINE = "It is not connected now."
ONLINE = "It is connected."


@dataclass(frozen=True, slots=True)
class SlotView:
    """What a slot must run and what it runs, each with the beginning of its digest."""

    key: str
    model: str
    wants: str
    wants_digest: str
    runs: str
    runs_digest: str
    same: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class DeviceView:
    """All of the page that may change while somebody looks."""

    at_ms: int
    device: str
    profile: str
    word: str
    shape: str
    tone: str
    reason: str
    next: str
    reported_ms: int
    online: str
    slots: list[SlotView]


def device_view(session: Session, device_id: str, *, now_ms: int) -> DeviceView:
    """Return the page.

    Raises:
        NotFoundError: There is no such device.
    """
    device = find_device(session, device_id)
    verdict = compliance.verdict_of(session, device_id, now_ms=now_ms)
    look = words.COMPLIANCE[verdict.state]
    rows = [row for row in verdict.slots if row.slot]
    wanted = releases_by_id(session, [row.wanted for row in rows if row.wanted])
    return DeviceView(
        at_ms=now_ms,
        device=device.id,
        profile=device.profile,
        word=look.word,
        shape=look.shape,
        tone=look.tone,
        reason=verdict.reason,
        next=verdict.next,
        reported_ms=verdict.reported_ms,
        online=ONLINE if device.online else OFFLINE,
        slots=[_slot(row, wanted.get(row.wanted), device) for row in rows],
    )


def _slot(row: Row, wanted: Release | None, device: Device) -> SlotView:
    variant = None
    if wanted is not None:
        facts = read_facts(json.loads(device.facts_json))
        variant = best_variant(facts, wanted.variants)
    digest = variant.digest if variant else ""
    same = bool(digest) and digest == row.digest and row.intact
    nothing = "nothing decided" if wanted is None else "no variant for this hardware"
    return SlotView(
        key=row.slot,
        model=row.model or (wanted.model if wanted else ""),
        wants=wanted.version if wanted else "",
        wants_digest=words.short(digest) or nothing,
        runs=row.version or "nothing",
        runs_digest=words.short(row.digest),
        same=same,
        verdict=_compare(row, same=same),
    )


def _compare(row: Row, *, same: bool) -> str:
    if not row.intact:
        return "altered on the device"
    text = "the same file" if same else "not the same file"
    # what is old must not read like what is
    return f"{text} when it was last heard" if row.state is Compliance.STALE else text
