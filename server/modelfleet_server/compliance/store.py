"""Compliance as SQL over what devices reported: one expression for counts and for lists.

Nothing is recomputed per device when a document changes: a row's order is compared with
the order of the document in force.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, literal, or_, select
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from modelfleet_manifests.topics import PREFIX
from modelfleet_manifests.wanted import Hold, Reason
from modelfleet_server.compliance.domain import ORDER, Compliance
from modelfleet_server.devices.domain import DeviceState
from modelfleet_server.devices.tables import (
    Device,
    Group,
    GroupSlot,
    Member,
    SlotState,
)
from modelfleet_server.trust.tables import DirectorTopic
from modelfleet_server.trust.view import recalled_names

STALE_MS = 15 * 60_000
"""A device whose last report is older than this is stale."""

WAITS = (
    "waits-until", "paused", "not-admitted", "waits-for-group", "waits-for-metadata",
    "no-assignment", "held", "expired", *Hold,
)  # fmt: skip
FAILS = ("quarantined", "not-allowed", "agent-too-old")
BIT_ROT = "bit-rot"
"""What a device reports while it repairs a file that was altered under a running model."""


@dataclass(frozen=True, slots=True)
class Row:
    """A device and one of the slots that a group governs there."""

    device: str
    profile: str
    slot: str
    state: Compliance
    reason: str
    detail: str
    phase: str
    model: str
    version: str
    variant: str
    digest: str
    wanted: str
    reported_ms: int
    intact: bool


def governed(session: Session, now_ms: int) -> Select[Any]:
    """Return the statement behind counts and lists: a row per device and slot.

    A device that no group governs has one row, without a slot.
    """
    governing = (
        select(col(Member.device), col(Member.group_id), col(GroupSlot.slot))
        .join(GroupSlot, col(GroupSlot.group_id) == col(Member.group_id))
        .subquery()
    )
    rank = _rank(session, now_ms, governing.c.slot)
    columns: list[Any] = [
        col(Device.id).label("device"),
        col(Device.profile).label("profile"),
        func.coalesce(col(SlotState.slot), governing.c.slot, "").label("slot"),
        rank.label("rank"),
        func.coalesce(col(SlotState.reason), "").label("reason"),
        func.coalesce(col(SlotState.detail), "").label("detail"),
        func.coalesce(col(SlotState.phase), "").label("phase"),
        func.coalesce(col(SlotState.model), "").label("model"),
        func.coalesce(col(SlotState.version), "").label("version"),
        func.coalesce(col(SlotState.variant), "").label("variant"),
        func.coalesce(col(SlotState.digest), "").label("digest"),
        func.coalesce(col(SlotState.wanted), "").label("wanted"),
        col(Device.reported_ms).label("reported_ms"),
        func.coalesce(col(SlotState.intact), literal(value=True)).label("intact"),
    ]
    return (
        select(*columns)
        .select_from(Device)
        .outerjoin(governing, governing.c.device == col(Device.id))
        .outerjoin(
            SlotState,
            and_(
                col(SlotState.device) == col(Device.id),
                col(SlotState.slot) == governing.c.slot,
            ),
        )
        .outerjoin(
            DirectorTopic,
            col(DirectorTopic.topic)
            == literal(f"{PREFIX}/g/") + governing.c.group_id + literal("/deployment"),
        )
        .where(
            col(Device.state) == DeviceState.ENROLLED,
            # Where groups overlap, only the one that governs says what must run.
            or_(
                col(SlotState.group_id).is_(None),
                col(SlotState.group_id) == governing.c.group_id,
            ),
        )
    )


def _rank(session: Session, now_ms: int, slot: ColumnElement[str]) -> ColumnElement[int]:
    """Return the state as a number, its place in `ORDER`; the first that applies."""
    behind = or_(
        col(SlotState.epoch) < col(DirectorTopic.epoch),
        and_(
            col(SlotState.epoch) == col(DirectorTopic.epoch),
            col(SlotState.counter) < col(DirectorTopic.counter),
        ),
    )
    recalled = recalled_names(session)
    revoked = or_(col(SlotState.release).in_(recalled), col(SlotState.digest).in_(recalled))
    rules: list[tuple[ColumnElement[bool], Compliance]] = [
        (col(Device.reported_ms) == 0, Compliance.UNKNOWN),
        (col(Device.reported_ms) < now_ms - STALE_MS, Compliance.STALE),
        (slot.is_(None), Compliance.COMPLIANT),
        (col(SlotState.slot).is_(None), Compliance.WAITING),
        (revoked, Compliance.REVOKED),
        (
            or_(col(SlotState.intact).is_(False), col(SlotState.reason) == BIT_ROT),
            Compliance.DRIFTED,
        ),
        (col(SlotState.phase) != "idle", Compliance.UPDATING),
        # What is no word of the resolver is the code of the device's last failure.
        (
            or_(
                col(SlotState.reason).in_(FAILS),
                col(SlotState.reason).not_in([one.value for one in (*Reason, *Hold)]),
            ),
            Compliance.FAILED,
        ),
        (behind, Compliance.WAITING),
        (col(SlotState.reason).in_(WAITS), Compliance.WAITING),
        (col(SlotState.release).is_(None), Compliance.FAILED),
        (col(SlotState.reason) == "as-wanted", Compliance.COMPLIANT),
    ]
    whens = [(rule, ORDER.index(state)) for rule, state in rules]
    return case(*whens, else_=ORDER.index(Compliance.UPDATING))


def count_states(
    session: Session, now_ms: int, group: Group | None = None
) -> dict[Compliance, int]:
    """Return how many devices are in each state; a device counts once, in its worst."""
    inner = _narrow(governed(session, now_ms), group).subquery()
    per_device = (
        select(inner.c.device, func.min(inner.c.rank).label("rank"))
        .group_by(inner.c.device)
        .subquery()
    )
    rows = session.execute(
        select(per_device.c.rank, func.count()).group_by(per_device.c.rank)
    ).all()
    counts = {ORDER[rank]: count for rank, count in rows}
    return {state: counts.get(state, 0) for state in Compliance}


def list_rows(  # noqa: PLR0913 filters of one list
    session: Session,
    now_ms: int,
    *,
    group: Group | None = None,
    device: str | None = None,
    state: Compliance | None = None,
    after: str = "",
    limit: int = 100,
) -> list[Row]:
    """Return the rows of up to `limit` devices after the device `after`, by device id."""
    inner = _narrow(governed(session, now_ms), group).subquery()
    ids = select(inner.c.device).where(inner.c.device > after)
    if device is not None:
        ids = ids.where(inner.c.device == device)
    ids = ids.group_by(inner.c.device)
    if state is not None:
        ids = ids.having(func.min(inner.c.rank) == ORDER.index(state))
    chosen = ids.order_by(inner.c.device).limit(limit).subquery()
    other = aliased(inner)
    rows = session.execute(
        select(other)
        .where(other.c.device.in_(select(chosen.c.device)))
        .order_by(other.c.device, other.c.slot)
    ).mappings()
    return [
        Row(
            **{key: value for key, value in row.items() if key != "rank"},
            state=ORDER[row["rank"]],
        )
        for row in rows
    ]


def _narrow(statement: Select[Any], group: Group | None) -> Select[Any]:
    """Keep the members of a group; whichever group governs them says what they must run."""
    if group is None:
        return statement
    members = select(col(Member.device)).where(col(Member.group_id) == group.id)
    return statement.where(col(Device.id).in_(members))
