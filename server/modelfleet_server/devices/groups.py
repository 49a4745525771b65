"""Groups: who is in them, and which slots they govern."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlmodel import Session, col, delete, func, select

from modelfleet_manifests.assignment import Since
from modelfleet_manifests.deployment import MAX_LISTED, Deployment, Left
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.names import check_name
from modelfleet_manifests.selector import parse_selector
from modelfleet_manifests.topics import deployment_topic, device_topic
from modelfleet_server.audit import service as audit
from modelfleet_server.devices.assignments import assign
from modelfleet_server.devices.domain import DeviceState
from modelfleet_server.devices.tables import (
    Departure,
    Device,
    DeviceLabel,
    Group,
    GroupSlot,
    Member,
)
from modelfleet_server.kit.access import Actor
from modelfleet_server.kit.errors import ConflictError, InvalidError, NotFoundError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust import director as documents
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.drafting import Draft


@dataclass(frozen=True, slots=True)
class GroupWish:
    """A group to be made: of what `selector` matches, or of the listed devices.

    Attributes:
        priority: Where groups overlap, the higher one governs.
    """

    name: str
    selector: str | None = None
    devices: tuple[str, ...] = ()
    priority: int = 0


def create_group(session: Session, wish: GroupWish, actor: Actor, *, now_ms: int) -> Group:
    """Make a group.

    Raises:
        InvalidError: A name or the selector breaks its grammar, both or neither of
            selector and devices are given, or nothing is in the group.
        ConflictError: The name is taken.
        NotFoundError: A listed device does not exist.
    """
    _check(wish)
    if session.exec(select(Group).where(Group.name == wish.name)).first():
        raise ConflictError(f"there is a group {wish.name!r} already", group=wish.name)
    selector = wish.selector
    members = _matching(session, selector) if selector else _listed(session, wish.devices)
    if not members:
        raise InvalidError(
            f"the selector {selector!r} matches no device",
            "See the labels: modelfleet device list.",
            selector=selector,
        )
    group = Group(
        id=new_id(),
        name=wish.name,
        selector=selector,
        priority=wish.priority,
        created_ms=now_ms,
    )
    session.add(group)
    session.flush()
    for device in members:
        session.add(Member(group_id=group.id, device=device))
    session.flush()
    audit.record(
        session,
        str(actor),
        "group.created",
        wish.name,
        {"id": group.id, "selector": selector, "members": len(members)},
        at_ms=now_ms,
    )
    return group


def delete_group(
    session: Session,
    director: Director,
    name: str,
    actor: Actor,
    *,
    now_ms: int,
    governing_too: bool = False,
) -> None:
    """Delete a group: members are signed over to other groups first, topics cleared after.

    Raises:
        NotFoundError: There is none.
        ConflictError: It governs a slot and `governing_too` was not said.
    """
    group = find_group(session, name)
    slots = slots_of(session, group.id)
    if slots and not governing_too:
        raise ConflictError(
            f"group {name!r} governs {', '.join(slots)}",
            "Its devices keep what they run. Say --yes to delete it.",
            group=name,
            slots=slots,
        )
    members = members_of(session, group.id)
    session.exec(delete(GroupSlot).where(col(GroupSlot.group_id) == group.id))
    session.exec(delete(Departure).where(col(Departure.group_id) == group.id))
    session.exec(delete(Member).where(col(Member.group_id) == group.id))
    assign(session, director, members, now_ms=now_ms)
    documents.clear(session, deployment_topic(group.id))
    session.delete(group)
    audit.record(session, str(actor), "group.deleted", name, {"id": group.id}, at_ms=now_ms)


def find_group(session: Session, name: str) -> Group:
    """Return the group of this name.

    Raises:
        NotFoundError: There is none.
    """
    group = session.exec(select(Group).where(Group.name == name)).first()
    if group is None:
        raise NotFoundError(
            f"there is no group {name!r}", "List them: modelfleet group list.", group=name
        )
    return group


def members_of(session: Session, group_id: str) -> list[Device]:
    """Return the enrolled members of a group, by id."""
    return list(
        session.exec(
            select(Device)
            .join(Member, col(Member.device) == col(Device.id))
            .where(Member.group_id == group_id, Device.state == DeviceState.ENROLLED)
            .order_by(col(Device.id))
        )
    )


def count_members(session: Session, group_id: str) -> int:
    """Return how many devices are in a group."""
    return session.exec(
        select(func.count()).select_from(Member).where(Member.group_id == group_id)
    ).one()


def slots_of(session: Session, group_id: str) -> list[str]:
    """Return the slots that a group governs."""
    return list(
        session.exec(
            select(GroupSlot.slot)
            .where(GroupSlot.group_id == group_id)
            .order_by(col(GroupSlot.slot))
        )
    )


def govern(
    session: Session, director: Director, group: Group, slot: str, *, now_ms: int
) -> None:
    """Let a group govern a slot: one assignment for each member whose governor changes.

    Publish the group's deployment first: assignments name its order.
    """
    if session.get(GroupSlot, (group.id, slot)) is None:
        session.add(GroupSlot(group_id=group.id, slot=slot))
        session.flush()
    assign(session, director, members_of(session, group.id), now_ms=now_ms)


def regroup(session: Session, director: Director, device: Device, *, now_ms: int) -> None:
    """Bring a device's memberships in line with its labels; its assignment comes after."""
    labels = {
        row.key: row.value
        for row in session.exec(select(DeviceLabel).where(DeviceLabel.device == device.id))
    }
    for group in session.exec(select(Group).where(col(Group.selector).is_not(None))).all():
        fits = parse_selector(group.selector or "").matches(labels)
        member = session.get(Member, (group.id, device.id))
        if fits and member is None:
            session.add(Member(group_id=group.id, device=device.id))
        elif not fits and member is not None:
            session.delete(member)
            _note_departure(session, director, group, device, now_ms)
    session.flush()


def leave_all(session: Session, device: Device) -> None:
    """Take a retired device out of all its groups; it has no newer assignment to await."""
    session.exec(delete(Member).where(col(Member.device) == device.id))
    session.exec(delete(Departure).where(col(Departure.device) == device.id))


def departures_of(session: Session, group_id: str) -> list[Left]:
    """Return whom the group's deployment must name in `left`; the oldest first."""
    rows = session.exec(
        select(Departure)
        .where(Departure.group_id == group_id)
        .order_by(col(Departure.counter))
        .limit(MAX_LISTED)
    )
    return [
        Left(enrolment=row.enrolment, order=Since(epoch=row.epoch, counter=row.counter))
        for row in rows
    ]


def settle_departures(session: Session, device: Device, epoch: int, counter: int) -> None:
    """Forget departures of a device that reports an assignment of this order or newer."""
    for row in session.exec(select(Departure).where(Departure.device == device.id)).all():
        if (row.epoch, row.counter) <= (epoch, counter):
            session.delete(row)


def _note_departure(
    session: Session, director: Director, group: Group, device: Device, now_ms: int
) -> None:
    topic = deployment_topic(group.id)
    held = documents.current(session, topic)
    told = documents.current(session, device_topic(device.id, "assignment"))
    if held is None or told is None:
        return
    # The assignment that follows in this transaction has at least this order.
    session.merge(
        Departure(
            group_id=group.id,
            enrolment=device.enrolment,
            device=device.id,
            epoch=told.order.epoch,
            counter=told.order.counter + 1,
        )
    )
    session.flush()
    body = held.document
    if isinstance(body, Deployment):
        left = departures_of(session, group.id)
        draft = Draft(
            topic,
            lambda header: msgspec.structs.replace(body, header=header, left=left),
            group=group.id,
        )
        documents.publish(session, director, [draft], now_ms=now_ms)


def _matching(session: Session, selector: str) -> list[str]:
    parsed = parse_selector(selector)
    labels: dict[str, dict[str, str]] = {
        device: {}
        for device in session.exec(
            select(Device.id).where(Device.state == DeviceState.ENROLLED)
        )
    }
    for row in session.exec(select(DeviceLabel)):
        if row.device in labels:
            labels[row.device][row.key] = row.value
    return sorted(device for device, them in labels.items() if parsed.matches(them))


def _listed(session: Session, devices: Sequence[str]) -> list[str]:
    known = set(session.exec(select(Device.id).where(col(Device.id).in_(devices))))
    missing = sorted(set(devices) - known)
    if missing:
        raise NotFoundError(
            f"there is no device {missing[0]!r}",
            "List them: modelfleet device list.",
            devices=missing,
        )
    return sorted(known)


def _check(wish: GroupWish) -> None:
    try:
        check_name(wish.name, "group")
        if wish.selector is not None:
            parse_selector(wish.selector)
    except ManifestError as error:
        raise InvalidError(str(error)) from None
    if (wish.selector is None) == (not wish.devices):
        raise InvalidError(
            f"group {wish.name!r} needs either a selector or devices",
            "Give --selector 'site=plant-b' or --device ID.",
        )
