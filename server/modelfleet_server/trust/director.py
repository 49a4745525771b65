"""The director: signs once which release runs where, and keeps what it signed.

It chooses only among what the approvers signed. A document is signed when its content
changes or its life is half over, never to send it again: `resend` sends the stored bytes.
"""

import logging
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET
from sqlmodel import Session

from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import cap_of, read, write
from modelfleet_manifests.envelope import peek, seal, unseal
from modelfleet_manifests.errors import AddressError, LimitError, ManifestError
from modelfleet_manifests.header import VERSION, Header, Order, check_address
from modelfleet_manifests.keys import PrivateKey, PublicKey
from modelfleet_manifests.topics import parse_topic
from modelfleet_server.bridge import outbox
from modelfleet_server.trust import ledger, store

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
LIFE_MS = 30 * DAY_MS
"""How long a document is in force after it was signed."""

RENEW_FROM, RENEW_TO = 40, 60
"""Per cent of its life at which a document is signed anew, drawn per document."""

BODIES: dict[str, type[Assignment] | type[Deployment]] = {
    "assignment": Assignment,
    "deployment": Deployment,
}


class Director:
    """The director's key. The only object that signs assignments and deployments.

    Args:
        key: From the online key file.
        fleet: SHA-256 of the first root.
        draw: Returns a random integer in `[0, n)`; spreads renewals.
        others: Earlier keys, newest first: they sign while the officers name them.
    """

    def __init__(
        self,
        key: PrivateKey,
        fleet: str,
        draw: Callable[[int], int] = secrets.randbelow,
        others: Sequence[PrivateKey] = (),
    ) -> None:
        self._keys = (key, *others)
        self.fleet = fleet
        self.draw = draw

    @property
    def public(self) -> PublicKey:
        """The key that was made last."""
        return self._keys[0].public

    @property
    def known(self) -> list[PublicKey]:
        """All keys that this server signed documents with."""
        return [key.public for key in self._keys]

    def seal(self, kind: str, payload: bytes, key_ids: Collection[str] = ()) -> bytes:
        """Return the signed envelope of a document.

        Args:
            kind: Of the document.
            payload: To be signed.
            key_ids: Of the keys in force; where none of them is here the newest key signs,
                and devices refuse it until the officers name it.
        """
        named = (key for key in self._keys if key.public.key_id in key_ids)
        return seal(kind, payload, [next(named, self._keys[0])])


@dataclass(frozen=True, slots=True)
class Issued:
    """A document that was signed.

    Attributes:
        topic: Where it travels.
        order: Its place among the documents of the topic.
        digest: SHA-256 of the payload: what a device reports that it holds.
        envelope: The signed bytes.
        issued_ms: When, Unix milliseconds.
        expires_ms: Until when, Unix milliseconds.
    """

    topic: str
    order: Order
    digest: str
    envelope: bytes
    issued_ms: int
    expires_ms: int

    @property
    def document(self) -> Assignment | Deployment:
        """The content; the bytes come from our own database, not from the wire."""
        kind = _kind_of(self.topic)
        return _parse(peek(self.envelope, kind, cap=cap_of(kind)), kind)


def publish(  # noqa: PLR0913 the header names its addressee in one of two ways
    session: Session,
    director: Director,
    topic: str,
    build: Callable[[Header], Assignment | Deployment],
    *,
    now_ms: int,
    device: str | None = None,
    enrolment: str | None = None,
    group: str | None = None,
) -> Issued:
    """Sign the next document of `topic`, store it and put it into the outbox.

    Args:
        session: Writing.
        director: Signs.
        topic: Of an assignment or a deployment.
        build: Called once with the header; returns the document with that header.
        now_ms: Unix milliseconds.
        device: The device id, for an assignment.
        enrolment: Its enrolment id, together with `device`.
        group: The group id, for a deployment.

    Raises:
        AddressError: The topic is another one than the device or group says.
        FormatError: The document has a value out of range.
        LimitError: The signed document would be too large for the topic.
    """
    seen = store.in_force(session)
    last = ledger.last_order(session, topic) or Order(0, -1)
    order = Order(max(seen.epoch, last.epoch), max(last.counter + 1, now_ms))
    kind = _kind_of(topic)
    header = Header(
        type=kind,
        v=VERSION,
        needs=[],
        fleet=director.fleet,
        epoch=order.epoch,
        counter=order.counter,
        issued=now_ms,
        expires=now_ms + LIFE_MS,
        min=seen.minimum,
        device=device or UNSET,
        enrolment=enrolment or UNSET,
        group=group or UNSET,
    )
    _check(header, topic, director.fleet)
    payload = _write(build(header), header, kind)
    envelope = director.seal(kind, payload, seen.director)
    if len(envelope) > cap_of(kind):
        raise LimitError(
            topic, f"the {kind} has {len(envelope)} bytes, at most {cap_of(kind)} fit"
        )
    issued = Issued(topic, order, sha256(payload), envelope, now_ms, header.expires)
    ledger.keep(session, _entry(issued), _draw_renewal(director, now_ms))
    outbox.put(session, topic, envelope)
    return issued


def current(session: Session, topic: str) -> Issued | None:
    """Return the document in force on `topic`, None if there is none."""
    entry = ledger.find_current(session, topic)
    return None if entry is None else Issued(*entry)


def find(session: Session, topic: str, order: Order) -> Issued | None:
    """Return what was signed for `topic` with this order; also what is superseded."""
    entry = ledger.find_by_order(session, topic, order)
    return None if entry is None else Issued(*entry)


def resend(session: Session, topic: str) -> bool:
    """Publish the bytes in force on `topic` once more; say whether there are any."""
    issued = current(session, topic)
    if issued is not None:
        outbox.put(session, topic, issued.envelope)
    return issued is not None


def clear(session: Session, topic: str) -> None:
    """Leave nothing in force on `topic`; the counter goes on where it stopped.

    A topic that never had a document is cleared at the broker all the same.
    """
    ledger.clear(session, topic)
    outbox.put(session, topic, b"")


def renew(
    session: Session, director: Director, now_ms: int, *, limit: int = 500
) -> list[Issued]:
    """Sign anew what is past its drawn 40 to 60 % of life, the oldest first.

    The content stays; order, dates and the lowest trust versions are new. What does not
    verify under the director's key was changed in the database: it is left to expire.

    Args:
        session: Writing.
        director: Signs.
        now_ms: Unix milliseconds.
        limit: Of documents in this call, so that the transaction stays short.
    """
    renewed = []
    for due in ledger.find_due(session, now_ms, limit):
        try:
            renewed.append(_renew_one(session, director, due, now_ms))
        except ManifestError:
            log.exception("the document on %s is not renewed", due.topic)
            ledger.forget_renewal(session, due.topic)
    return renewed


def epoch(session: Session) -> int:
    """Return the generation of the director's key that the officers signed, 0 if none."""
    return store.in_force(session).epoch


def _renew_one(
    session: Session, director: Director, due: ledger.Entry, now_ms: int
) -> Issued:
    kind = _kind_of(due.topic)
    payload = unseal(due.envelope, kind, director.known, cap=cap_of(kind))
    body = _parse(payload, kind)
    header = body.header
    return publish(
        session,
        director,
        due.topic,
        lambda new: msgspec.structs.replace(body, header=new),
        now_ms=now_ms,
        device=header.device or None,
        enrolment=header.enrolment or None,
        group=header.group or None,
    )


def _kind_of(topic: str) -> str:
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


def _write(body: Assignment | Deployment, header: Header, kind: str) -> bytes:
    payload = write(body)
    # structs do not check ranges when they are made: what devices would refuse is
    # refused here, before it is signed
    if _parse(payload, kind).header != header:
        raise AddressError(kind, "was built with another header than it was given")
    return payload


def _parse(payload: bytes, kind: str) -> Assignment | Deployment:
    if kind == "assignment":
        return read(payload, Assignment, kind, cap=cap_of(kind))
    return read(payload, Deployment, kind, cap=cap_of(kind))


def _draw_renewal(director: Director, now_ms: int) -> int:
    share = LIFE_MS // 100
    return now_ms + RENEW_FROM * share + director.draw((RENEW_TO - RENEW_FROM) * share)


def _entry(issued: Issued) -> ledger.Entry:
    return ledger.Entry(
        issued.topic,
        issued.order,
        issued.digest,
        issued.envelope,
        issued.issued_ms,
        issued.expires_ms,
    )
