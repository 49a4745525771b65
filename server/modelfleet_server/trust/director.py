"""The director: signs once which release runs where, and keeps what it signed.

It chooses only among what the approvers signed. A document is signed when its content
changes or its life is half over, never to send it again: `resend` sends the stored bytes.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlmodel import Session

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import cap_of
from modelfleet_manifests.envelope import peek, wrap
from modelfleet_manifests.errors import LimitError
from modelfleet_manifests.header import Order
from modelfleet_manifests.keys import PublicKey
from modelfleet_server.bridge import outbox
from modelfleet_server.trust import ledger, store
from modelfleet_server.trust.drafting import (
    BODIES,
    LIFE_MS,
    Basis,
    Body,
    Composed,
    Draft,
    compose,
    kind_of,
    parse_document,
)
from modelfleet_server.trust.lessons import taught
from modelfleet_server.trust.signer.domain import Signer, TakenError

RENEW_FROM, RENEW_TO = 40, 60
"""Per cent of its life at which a document is signed anew, drawn per document."""

BATCH = 256
"""Documents that the signer gets at once."""


class Director:
    """Asks the signer to sign assignments and deployments, with the director's key.

    Args:
        signer: Has the key.
        draw: Returns a random integer in `[0, n)`; spreads renewals.
    """

    def __init__(
        self, signer: Signer, draw: Callable[[int], int] = secrets.randbelow
    ) -> None:
        self.signer, self.draw = signer, draw
        self._fleet = ""

    @property
    def fleet(self) -> str:
        """SHA-256 of the first root."""
        self._fleet = self._fleet or self.signer.greet().fleet
        return self._fleet

    @property
    def public(self) -> PublicKey:
        """The key that was made last."""
        return self.known[0]

    @property
    def known(self) -> Sequence[PublicKey]:
        """All keys that this server signed documents with."""
        return self.signer.greet().keys["director"]

    def seal(self, session: Session, kind: str, payloads: Sequence[bytes]) -> list[bytes]:
        """Return the signed envelopes of documents of one kind.

        Where none of the keys in force is here the newest signs, and devices refuse it
        until the officers name it.

        Raises:
            AppError: What `Signer.sign_documents` raises.
        """
        key_ids = store.in_force(session).director
        signatures = taught(
            session,
            self.signer,
            lambda: self.signer.sign_documents(kind, payloads, key_ids),
        )
        return [
            wrap(kind, payload, [(one.key_id, one.value)])
            for payload, one in zip(payloads, signatures, strict=True)
        ]


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
    def document(self) -> Body:
        """The content; the bytes come from our own database, not from the wire."""
        kind = kind_of(self.topic)
        return parse_document(peek(self.envelope, kind, cap=cap_of(kind)), kind)


def publish(
    session: Session, director: Director, drafts: Sequence[Draft], *, now_ms: int
) -> list[Issued]:
    """Sign the next documents of some topics, store them and put them into the outbox.

    Args:
        session: Writing.
        director: Signs.
        drafts: One for each topic.
        now_ms: Unix milliseconds.

    Raises:
        AddressError: A topic is another one than its device or group says.
        FormatError: A document has a value out of range.
        LimitError: A signed document would be too large for its topic.
        AppError: The signer refuses one of them, or cannot be reached.
    """
    issued: list[Issued] = []
    for kind in BODIES:
        them = [one for one in drafts if kind_of(one.topic) == kind]
        for start in range(0, len(them), BATCH):
            issued += _sign(session, director, kind, them[start : start + BATCH], now_ms)
    for one in issued:
        ledger.keep(session, _entry(one), _draw_renewal(director, now_ms))
        outbox.put(session, one.topic, one.envelope)
    places = {one.topic: place for place, one in enumerate(drafts)}
    return sorted(issued, key=lambda one: places[one.topic])


def sign(session: Session, director: Director, draft: Draft, *, now_ms: int) -> Issued:
    """Sign a document that a device fetches itself; it is neither stored nor sent.

    Raises:
        AddressError, FormatError, LimitError, AppError: As `publish`.
    """
    (issued,) = _sign(session, director, kind_of(draft.topic), [draft], now_ms)
    return issued


def _sign(
    session: Session, director: Director, kind: str, drafts: Sequence[Draft], now_ms: int
) -> list[Issued]:
    composed = [_compose(session, director, one, Order(0, -1), now_ms) for one in drafts]
    try:
        return _seal(session, director, kind, composed)
    except TakenError as error:
        if len(drafts) > 1:
            return [
                one
                for draft in drafts
                for one in _sign(session, director, kind, [draft], now_ms)
            ]
        # signed in a transaction that came to nothing: go on after it
        after = Order(int(str(error.data["epoch"])), int(str(error.data["counter"])))
        again = _compose(session, director, drafts[0], after, now_ms)
        return _seal(session, director, kind, [again])


def _compose(
    session: Session, director: Director, draft: Draft, after: Order, now_ms: int
) -> Composed:
    seen = store.in_force(session)
    last = max(ledger.last_order(session, draft.topic) or after, after)
    order = Order(max(seen.epoch, last.epoch), max(last.counter + 1, now_ms))
    return compose(draft, Basis(director.fleet, seen.minimum, now_ms), order)


def _seal(
    session: Session, director: Director, kind: str, composed: Sequence[Composed]
) -> list[Issued]:
    envelopes = director.seal(session, kind, [one.payload for one in composed])
    issued = []
    for (topic, header, payload), envelope in zip(composed, envelopes, strict=True):
        if len(envelope) > cap_of(kind):
            raise LimitError(
                topic, f"the {kind} has {len(envelope)} bytes, at most {cap_of(kind)} fit"
            )
        digest, order = sha256(payload), header.order
        issued.append(Issued(topic, order, digest, envelope, header.issued, header.expires))
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


def epoch(session: Session) -> int:
    """Return the generation of the director's key that the officers signed, 0 if none."""
    return store.in_force(session).epoch


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
