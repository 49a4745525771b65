"""Composes what the director signs: header, order, and the checks that a device makes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import UNSET

from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.document import cap_of, read, write
from modelfleet_manifests.errors import AddressError
from modelfleet_manifests.evaluation import Evaluation
from modelfleet_manifests.header import VERSION, Header, Minimum, Order, check_address
from modelfleet_manifests.topics import parse_topic

DAY_MS = 86_400_000
LIFE_MS = 30 * DAY_MS
"""How long a document is in force after it was signed."""

Body = Assignment | Deployment | Evaluation
BODIES: dict[str, type[Body]] = {
    "assignment": Assignment,
    "deployment": Deployment,
    "evaluation": Evaluation,
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A document that is to be signed.

    Attributes:
        topic: Where it will travel.
        build: Called with the header, perhaps more than once; returns the document.
        device: The device id, for an assignment or an evaluation.
        enrolment: Its enrolment id, together with `device`.
        group: The group id, for a deployment.
    """

    topic: str
    build: Callable[[Header], Body]
    device: str | None = None
    enrolment: str | None = None
    group: str | None = None


class Composed(NamedTuple):
    """A document that is ready to be signed; `payload` are its canonical bytes."""

    topic: str
    header: Header
    payload: bytes


class Basis(NamedTuple):
    """What a header is made from: the fleet, the lowest versions to be seen, the time."""

    fleet: str
    minimum: Minimum
    now_ms: int


def compose(draft: Draft, basis: Basis, order: Order) -> Composed:
    """Return the document of `draft` with its place among those of its topic.

    Raises:
        AddressError: The topic is another one than its device or group says.
        FormatError: It has a value out of range.
    """
    kind = kind_of(draft.topic)
    header = Header(
        type=kind,
        v=VERSION,
        needs=[],
        fleet=basis.fleet,
        epoch=order.epoch,
        counter=order.counter,
        issued=basis.now_ms,
        expires=basis.now_ms + LIFE_MS,
        min=basis.minimum,
        device=draft.device or UNSET,
        enrolment=draft.enrolment or UNSET,
        group=draft.group or UNSET,
    )
    _check(header, draft.topic, basis.fleet)
    return Composed(draft.topic, header, _write(draft.build(header), header, kind))


def kind_of(topic: str) -> str:
    """Return what travels on a topic of the director.

    Raises:
        AddressError: No document of the director does.
    """
    address = parse_topic(topic)
    if address is None or address.kind not in BODIES:
        raise AddressError(f"topic {topic!r}", "carries no document of the director")
    return address.kind


def _check(header: Header, topic: str, fleet: str) -> None:
    address = parse_topic(topic)
    if address is None:
        raise AddressError(f"topic {topic!r}", "carries no document of the director")
    check_address(header, address, fleet=fleet)
    if (header.device is UNSET) != (header.enrolment is UNSET):
        raise AddressError(f"topic {topic!r}", "device and enrolment go together")


def _write(body: Body, header: Header, kind: str) -> bytes:
    payload = write(body)
    # structs do not check ranges when they are made: what devices would refuse is
    # refused here, before it is signed
    if parse_document(payload, kind).header != header:
        raise AddressError(kind, "was built with another header than it was given")
    return payload


def parse_document(payload: bytes, kind: str) -> Body:
    """Return the document in canonical bytes.

    Raises:
        FormatError: It is none of this kind.
    """
    if kind == "assignment":
        return read(payload, Assignment, kind, cap=cap_of(kind))
    if kind == "evaluation":
        return read(payload, Evaluation, kind, cap=cap_of(kind))
    return read(payload, Deployment, kind, cap=cap_of(kind))
