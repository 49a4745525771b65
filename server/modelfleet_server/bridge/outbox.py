"""The newest payload of every retained topic, and how far the broker has it.

Revisions count over the whole table in the order of commits. The *epoch* is the highest
revision up to which the broker has everything; it is published, retained, on `mf/v1/epoch`
after what it speaks for. So a broker that comes back with an old snapshot, or with nothing,
shows exactly from which revision on it has to be told again.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, func, insert, select, update
from sqlmodel import Session, SQLModel, col

from modelfleet_server.bridge.bell import bell_in
from modelfleet_server.bridge.tables import BridgeState, Outbox
from modelfleet_server.kit.db import after_commit
from modelfleet_server.kit.errors import InvalidError

MAX_PAYLOAD = 256 * 1024
MAX_TOPIC = 255

_REVISION = "modelfleet.outbox.revision"

# built once: a change of membership puts one row per device in one transaction
_rows = SQLModel.metadata.tables["outbox"]
_CHANGE = (
    update(_rows)
    .where(_rows.c.topic == bindparam("at"))
    .values(payload=bindparam("payload"), revision=bindparam("revision"))
)
_ADD = insert(_rows).values(
    topic=bindparam("at"),
    payload=bindparam("payload"),
    revision=bindparam("revision"),
    published=0,
)
_MARK = (
    update(_rows)
    .where(_rows.c.topic == bindparam("at"), _rows.c.published < bindparam("acknowledged"))
    .values(published=bindparam("acknowledged"))
)


class Entry(NamedTuple):
    """One version of one topic."""

    topic: str
    payload: bytes
    revision: int


def put(session: Session, topic: str, payload: bytes) -> int:
    """Make `payload` what every subscriber of `topic` gets, from this commit on.

    An older payload of the topic that was not sent yet is never sent. An empty payload
    clears the topic.

    Returns:
        The revision of this version.

    Raises:
        InvalidError: More than 256 KiB, or a topic that cannot be published to.
    """
    _check(topic, payload)
    if _REVISION not in session.info:
        # nobody else writes before this transaction ends (kit.db), and it ends the session
        session.info[_REVISION] = last_revision(session)
        after_commit(session, bell_in(session).ring)
    session.info[_REVISION] += 1
    revision: int = session.info[_REVISION]
    row = {"at": topic, "payload": payload, "revision": revision}
    if not session.execute(_CHANGE, row).rowcount:  # type: ignore[attr-defined]
        session.execute(_ADD, row)
    return revision


def again(session: Session, topic: str) -> bool:
    """Publish the present payload of `topic` once more; say whether there is one."""
    payload = session.execute(
        select(col(Outbox.payload)).where(col(Outbox.topic) == topic)
    ).scalar_one_or_none()
    if payload is None:
        return False
    put(session, topic, payload)
    return True


def pending(session: Session, limit: int, max_bytes: int) -> list[Entry]:
    """Return what the broker does not have, oldest change first.

    Args:
        session: Any.
        limit: Of entries.
        max_bytes: Of payloads; the first entry comes in any case.
    """
    rows = session.execute(
        select(col(Outbox.topic), col(Outbox.payload), col(Outbox.revision))
        .where(col(Outbox.published) < col(Outbox.revision))
        .order_by(col(Outbox.revision))
        .limit(limit)
    )
    entries: list[Entry] = []
    for topic, payload, revision in rows:
        max_bytes -= len(payload)
        if entries and max_bytes < 0:
            break
        entries.append(Entry(topic, payload, revision))
    return entries


def mark_published(session: Session, entries: Iterable[Entry]) -> None:
    """Note that the broker has acknowledged these versions; newer ones stay pending."""
    rows = [{"at": entry.topic, "acknowledged": entry.revision} for entry in entries]
    if rows:
        session.execute(_MARK, rows)


def rewind(session: Session, epoch: int) -> int:
    """Forget that the broker has what is newer than `epoch`; return how many topics."""
    rows: Sequence[object] = session.execute(
        update(Outbox)
        .where(col(Outbox.revision) > epoch, col(Outbox.published) > 0)
        .values(published=0)
        .returning(col(Outbox.topic))
    ).all()
    return len(rows)


def last_revision(session: Session) -> int:
    """Return the revision of the newest change; epochs heard from a broker count."""
    newest = session.execute(select(func.max(col(Outbox.revision)))).scalar_one()
    floor = session.execute(select(func.max(col(BridgeState.floor)))).scalar_one()
    return max(int(newest or 0), int(floor or 0))


def epoch(session: Session) -> int:
    """Return the highest revision up to which the broker has everything."""
    waiting = session.execute(
        select(func.min(col(Outbox.revision))).where(
            col(Outbox.published) < col(Outbox.revision)
        )
    ).scalar_one()
    return last_revision(session) if waiting is None else int(waiting) - 1


def backlog(session: Session) -> int:
    """Return how many topics wait to be published."""
    count: int = session.execute(
        select(func.count())
        .select_from(Outbox)
        .where(col(Outbox.published) < col(Outbox.revision))
    ).scalar_one()
    return count


def raise_floor(session: Session, name: str, floor: int) -> None:
    """Keep later revisions above `floor`, an epoch that some broker holds."""
    session.execute(
        update(BridgeState)
        .where(col(BridgeState.name) == name, col(BridgeState.floor) < floor)
        .values(floor=floor)
    )


def _check(topic: str, payload: bytes) -> None:
    if not 0 < len(topic) <= MAX_TOPIC or set(topic) & set("+#\0"):
        raise InvalidError(f"topic {topic!r} cannot be published to", topic=topic)
    if len(payload) > MAX_PAYLOAD:
        raise InvalidError(
            f"the payload for {topic} has {len(payload)} bytes, at most {MAX_PAYLOAD}"
            " can be published",
            topic=topic,
        )
