"""`why`: the resolver's own answer for one device, beside what the device reported."""

import json
from dataclasses import dataclass

from sqlmodel import Session, select

from modelfleet_manifests.assignment import Assignment, ByGroup
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.document import NotUnderstood
from modelfleet_manifests.profiles import read_facts
from modelfleet_manifests.resolve import resolve
from modelfleet_manifests.topics import deployment_topic, device_topic
from modelfleet_manifests.wanted import Action, Documents, Hold, Local, Wanted
from modelfleet_server.devices.enrolment import find_device
from modelfleet_server.devices.tables import SlotState
from modelfleet_server.trust import director as documents
from modelfleet_server.trust.view import read_view


@dataclass(frozen=True, slots=True)
class Answer:
    """One slot: what the server's resolver says, and what the device said.

    Attributes:
        wanted: Computed here from the documents in force and the device's last report.
        said: Of the device, None before its first report.
        agree: Both want the same for the same reason; where not, the device has not heard
            of the newest documents yet, or knows something that it did not report.
    """

    slot: str
    wanted: Wanted
    said: SlotState | None
    agree: bool


def explain_device(session: Session, device_id: str, *, now_ms: int) -> list[Answer]:
    """Return why each slot of a device is as it is.

    Raises:
        NotFoundError: There is no such device.
    """
    device = find_device(session, device_id)
    held = _documents(session, device.id)
    said = {
        row.slot: row
        for row in session.exec(select(SlotState).where(SlotState.device == device.id))
    }
    answers = resolve(
        read_facts(json.loads(device.facts_json)),
        held,
        read_view(session, now_ms=now_ms),
        {slot: _local(row) for slot, row in said.items()},
        now_ms,
    )
    return [
        Answer(slot, wanted, said.get(slot), _agree(wanted, said.get(slot)))
        for slot, wanted in answers.items()
    ]


def _documents(session: Session, device: str) -> Documents:
    issued = documents.current(session, device_topic(device, "assignment"))
    assignment = issued.document if issued else None
    if not isinstance(assignment, Assignment):
        return Documents()
    deployments: dict[str, Deployment | NotUnderstood] = {}
    for governor in assignment.slots.values():
        if isinstance(governor, ByGroup):
            one = documents.current(session, deployment_topic(governor.group))
            body = one.document if one else None
            if isinstance(body, Deployment):
                deployments[governor.group] = body
    return Documents(assignment, deployments)


def _local(row: SlotState) -> Local:
    """Return what the server knows of a slot; only the device knows what ran before."""
    ran = (row.release,) if row.release else ()
    return Local(
        release=row.release,
        digest=row.digest,
        model=row.model or "",
        version=row.version or "",
        ran=ran,
        present=frozenset(ran),
        proven=frozenset(ran) if row.phase == "idle" else frozenset(),
        begun=frozenset(json.loads(row.begun_json)),
    )


def _agree(wanted: Wanted, said: SlotState | None) -> bool:
    if said is None or said.action != wanted.action.value:
        return False
    # its own operator's settings hold back what both want
    waits = wanted.action is Action.INSTALL and said.reason in set(Hold)
    return waits or said.reason == wanted.reason.value
