"""Which group governs which slot of a device, as the signed assignment says it."""

import json
from collections.abc import Sequence

from msgspec import UNSET
from sqlmodel import Session, col, select

from modelfleet_manifests.assignment import Assignment, ByGroup, Governor, Since
from modelfleet_manifests.header import Header
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.topics import deployment_topic, device_topic
from modelfleet_server.devices.domain import Claimant, DeviceState, choose_governor
from modelfleet_server.devices.tables import Device, Group, GroupSlot, Member
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust import director as documents
from modelfleet_server.trust.director import Director, Issued
from modelfleet_server.trust.drafting import Draft


def governors_of(session: Session, device_id: str) -> dict[str, Claimant]:
    """Return the governing group of each slot of a device."""
    rows = session.exec(
        select(GroupSlot.slot, Group)
        .join(Group, col(Group.id) == col(GroupSlot.group_id))
        .join(Member, col(Member.group_id) == col(Group.id))
        .where(Member.device == device_id)
    ).all()
    claimants: dict[str, list[Claimant]] = {}
    for slot, group in rows:
        claimants.setdefault(slot, []).append(
            Claimant(group.id, group.name, group.priority)
        )
    chosen = {slot: choose_governor(them) for slot, them in claimants.items()}
    return {slot: one for slot, one in chosen.items() if one is not None}


def assign(
    session: Session, director: Director, devices: Sequence[Device], *, now_ms: int
) -> None:
    """Sign the assignments anew that would say something else; all at once.

    A device that left the fleet gets none.
    """
    drafts = [one for device in devices if (one := _draft(session, device)) is not None]
    documents.publish(session, director, drafts, now_ms=now_ms)


def answer_challenge(
    session: Session, director: Director, device: Device, challenge: str, *, now_ms: int
) -> None:
    """Sign the assignment anew for a device that lost what it held; once per challenge.

    It repeats the challenge, and names no deployment that is older than those in force.
    """
    held = documents.current(session, device_topic(device.id, "assignment"))
    body = held.document if held is not None else None
    if isinstance(body, Assignment) and body.echo == challenge:
        return
    draft = _draft(session, device, challenge)
    if draft is not None:
        documents.publish(session, director, [draft], now_ms=now_ms)


def _draft(session: Session, device: Device, challenge: str = "") -> Draft | None:
    if device.state is not DeviceState.ENROLLED:
        return None
    topic = device_topic(device.id, "assignment")
    held = documents.current(session, topic)
    slots = _slots(session, device)
    if not challenge and held is not None and _says_the_same(held, device, slots):
        return None
    device.nonce = new_id()
    session.add(device)

    def build(header: Header) -> Assignment:
        return Assignment(
            header=header,
            slots=slots,
            labels=json.loads(device.labels_json),
            incarnation=device.incarnation,
            report_key=PublicKey(device.report_key).fingerprint,
            nonce=device.nonce,
            echo=challenge or UNSET,
        )

    return Draft(topic, build, device=device.id, enrolment=device.enrolment)


def _slots(session: Session, device: Device) -> dict[str, Governor]:
    slots: dict[str, Governor] = {}
    for slot, one in governors_of(session, device.id).items():
        held = documents.current(session, deployment_topic(one.group))
        order = held.order if held else (0, 0)
        slots[slot] = ByGroup(
            group=one.group, since=Since(epoch=order[0], counter=order[1])
        )
    return slots


def _says_the_same(held: Issued, device: Device, slots: dict[str, Governor]) -> bool:
    body = held.document
    if not isinstance(body, Assignment) or body.header.enrolment != device.enrolment:
        return False
    groups = {
        slot: one.group for slot, one in body.slots.items() if isinstance(one, ByGroup)
    }
    wanted = {slot: one.group for slot, one in slots.items() if isinstance(one, ByGroup)}
    return groups == wanted and body.labels == json.loads(device.labels_json)
