"""The deployment of a group: read, changed as a whole, signed once."""

from collections.abc import Callable

from sqlmodel import Session

from modelfleet_manifests.deployment import Deployment, SlotSteps, Step, check_limits
from modelfleet_manifests.errors import LimitError
from modelfleet_manifests.header import Header
from modelfleet_manifests.topics import deployment_topic
from modelfleet_server.devices.groups import departures_of, govern
from modelfleet_server.devices.tables import Group
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust import director as documents
from modelfleet_server.trust.director import Director, Issued
from modelfleet_server.trust.drafting import Draft

Change = Callable[[list[Step]], list[Step]]


def steps_of(session: Session, group_id: str, slot: str) -> list[Step]:
    """Return the steps in force of a slot of a group, newest first."""
    return slots_of(session, group_id).get(slot, [])


def slots_of(session: Session, group_id: str) -> dict[str, list[Step]]:
    """Return the steps in force of every slot of a group."""
    issued = documents.current(session, deployment_topic(group_id))
    body = issued.document if issued else None
    if not isinstance(body, Deployment):
        return {}
    return {slot: list(held.steps) for slot, held in body.slots.items()}


def edit(
    session: Session,
    director: Director,
    group: Group,
    slot: str,
    change: Change,
    now_ms: int,
) -> Issued:
    """Publish a group's deployment with the steps of one slot changed.

    A group that did not govern the slot before governs it from now on. A change that
    leaves the steps as they are publishes nothing: every device would have to hear it.

    Raises:
        InvalidError: The document would not fit; the message names the slot to move.
    """
    held = slots_of(session, group.id)
    first = slot not in held
    before = documents.current(session, deployment_topic(group.id))
    steps = change(held.get(slot, []))
    if before is not None and steps == held.get(slot):
        return before
    held[slot] = steps
    slots = {name: SlotSteps(steps=steps) for name, steps in held.items()}
    try:
        check_limits(slots, group.name)
    except LimitError as error:
        raise InvalidError(str(error), group=group.name) from None

    def build(header: Header) -> Deployment:
        return Deployment(header=header, slots=slots, left=departures_of(session, group.id))

    draft = Draft(deployment_topic(group.id), build, group=group.id)
    [issued] = documents.publish(session, director, [draft], now_ms=now_ms)
    if first:
        govern(session, director, group, slot, now_ms=now_ms)
    return issued
