"""The newest payload of every retained topic, and how far the broker has it.

Revisions count over the whole table in the order of commits. The *epoch* is the highest
revision up to which the broker has everything; it is published, retained, on `mf/v1/epoch`
after what it speaks for. So a broker that comes back with an old snapshot, or with nothing,
shows exactly from which revision on it has to be told again.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import func, insert, select, update
from sqlmodel import Session, col

from modelfleet_server.bridge.bell import bell_in
from modelfleet_server.bridge.tables import BridgeState, Outbox
from modelfleet_server.kit.db import after_commit
from modelfleet_server.kit.errors import InvalidError

MAX_PAYLOAD = 256 * 1024
MAX_TOPIC = 255


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
    revision = _next_revision(session)
    changed = session.execute(
        update(Outbox)
        .where(col(Outbox.topic) == topic)
        .values(payload=payload, revision=revision)
        .returning(col(Outbox.topic))
    ).first()
    if changed is None:
        session.execute(
            insert(Outbox).values(
                topic=topic, payload=payload, revision=revision, published=0
            )
        )
    after_commit(session, bell_in(session).ring)
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
    for entry in entries:
        session.execute(
            update(Outbox)
            .where(col(Outbox.topic) == entry.topic, col(Outbox.published) < entry.revision)
            .values(published=entry.revision)
        )


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


def _next_revision(session: Session) -> int:
    # nobody else writes at the same time, see kit.db
    return last_revision(session) + 1


def _check(topic: str, payload: bytes) -> None:
    if not 0 < len(topic) <= MAX_TOPIC or set(topic) & set("+#\0"):
        raise InvalidError(f"topic {topic!r} cannot be published to", topic=topic)
    if len(payload) > MAX_PAYLOAD:
        raise InvalidError(
            f"the payload for {topic} has {len(payload)} bytes, at most {MAX_PAYLOAD}"
            " can be published",
            topic=topic,
        )
