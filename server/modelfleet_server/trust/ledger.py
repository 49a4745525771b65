"""What the director signed, by topic: the document in force, and all before it.

Statements are built once and go past the ORM: a change of membership signs one document per
device in one transaction.
"""

from typing import NamedTuple

from sqlalchemy import RowMapping, bindparam, insert, select, update
from sqlmodel import Session, SQLModel

from modelfleet_manifests.header import Order
from modelfleet_server.trust import tables

DOCUMENTS = SQLModel.metadata.tables[tables.DirectorDocument.__tablename__]
TOPICS = SQLModel.metadata.tables[tables.DirectorTopic.__tablename__]

_HELD = select(TOPICS.c.epoch, TOPICS.c.counter).where(TOPICS.c.topic == bindparam("at"))
_ADD_DOCUMENT = insert(DOCUMENTS).returning(DOCUMENTS.c.id)
_ADD_TOPIC = insert(TOPICS)
_CHANGE_TOPIC = update(TOPICS).where(TOPICS.c.topic == bindparam("at"))
_CHANGE_ALL = _CHANGE_TOPIC.values(
    epoch=bindparam("epoch"),
    counter=bindparam("counter"),
    document=bindparam("document"),
    renew_ms=bindparam("renew_ms"),
)
_CURRENT = (
    select(DOCUMENTS)
    .join(TOPICS, TOPICS.c.document == DOCUMENTS.c.id)
    .where(TOPICS.c.topic == bindparam("at"))
)
_BY_ORDER = select(DOCUMENTS).where(
    DOCUMENTS.c.topic == bindparam("at"),
    DOCUMENTS.c.epoch == bindparam("epoch"),
    DOCUMENTS.c.counter == bindparam("counter"),
)


class Entry(NamedTuple):
    """One signed document.

    Attributes:
        topic: Where it travels.
        order: Its place among the documents of the topic.
        digest: SHA-256 of the payload.
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


def last_order(session: Session, topic: str) -> Order | None:
    """Return the order of the last document signed for `topic`, also of a cleared one."""
    row = session.execute(_HELD, {"at": topic}).first()
    return None if row is None else Order(*row)


def keep(session: Session, entry: Entry, renew_ms: int) -> None:
    """Put a document into force on its topic; it is to be renewed at `renew_ms`."""
    known = last_order(session, entry.topic) is not None
    number = session.execute(
        _ADD_DOCUMENT,
        {
            "topic": entry.topic,
            "epoch": entry.order.epoch,
            "counter": entry.order.counter,
            "payload_digest": entry.digest,
            "envelope": entry.envelope,
            "issued_ms": entry.issued_ms,
            "expires_ms": entry.expires_ms,
        },
    ).scalar_one()
    values = {
        "epoch": entry.order.epoch,
        "counter": entry.order.counter,
        "document": number,
        "renew_ms": renew_ms,
    }
    if known:
        session.execute(_CHANGE_ALL, {"at": entry.topic, **values})
    else:
        session.execute(_ADD_TOPIC, {"topic": entry.topic, **values})


def find_current(session: Session, topic: str) -> Entry | None:
    """Return the document in force on `topic`."""
    return _entry(session.execute(_CURRENT, {"at": topic}).mappings().first())


def find_by_order(session: Session, topic: str, order: Order) -> Entry | None:
    """Return the document of `topic` with this order, also a superseded one."""
    asked = {"at": topic, "epoch": order.epoch, "counter": order.counter}
    return _entry(session.execute(_BY_ORDER, asked).mappings().first())


def find_due(session: Session, now_ms: int, limit: int) -> list[Entry]:
    """Return documents in force whose time of renewal has come, the oldest first."""
    rows = session.execute(
        select(DOCUMENTS)
        .join(TOPICS, TOPICS.c.document == DOCUMENTS.c.id)
        .where(TOPICS.c.renew_ms <= now_ms)
        .order_by(TOPICS.c.renew_ms)
        .limit(limit)
    )
    return [one for row in rows.mappings() if (one := _entry(row)) is not None]


def make_all_due(session: Session, now_ms: int) -> None:
    """Let everything in force be signed anew from `now_ms` on."""
    held = TOPICS.c.document.is_not(None)
    session.execute(update(TOPICS).where(held).values(renew_ms=now_ms))


def forget_renewal(session: Session, topic: str) -> None:
    """Leave the document in force on `topic` to expire."""
    session.execute(_CHANGE_TOPIC.values(renew_ms=None), {"at": topic})


def clear(session: Session, topic: str) -> None:
    """Leave nothing in force on `topic`."""
    session.execute(_CHANGE_TOPIC.values(document=None, renew_ms=None), {"at": topic})


def _entry(row: RowMapping | None) -> Entry | None:
    if row is None:
        return None
    return Entry(
        row["topic"],
        Order(row["epoch"], row["counter"]),
        row["payload_digest"],
        row["envelope"],
        row["issued_ms"],
        row["expires_ms"],
    )
