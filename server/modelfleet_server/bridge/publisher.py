"""The thread that empties the outbox into the broker, and keeps the epoch there."""

import logging
import threading
from collections.abc import Callable, Sequence

from modelfleet_manifests import topics
from modelfleet_server.bridge import outbox
from modelfleet_server.bridge.bell import Bell, Reply
from modelfleet_server.bridge.epoch import hear_epoch
from modelfleet_server.bridge.link import Link, LinkError, Parcel
from modelfleet_server.bridge.outbox import Entry
from modelfleet_server.kit.db import Database

log = logging.getLogger(__name__)

MAX_BATCH = 200
MAX_BATCH_BYTES = 4 * 1024 * 1024
IDLE_S = 1.0
"""How often to look for rows that another process wrote."""


class Publisher:
    """Publishes batch by batch, one version of a topic at a time.

    The next version of a topic is sent only after the one before was acknowledged, or after
    its connection is gone; so an older version never overtakes a newer one.

    Args:
        database: With the outbox.
        name: Of the bridge process, see `BridgeState`.
        bell: Rung after commits.
        current: Returns the open link, None while there is none.
        stopping: Ends the thread after the batch in hand.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        bell: Bell,
        current: Callable[[], Link | None],
        stopping: threading.Event,
    ) -> None:
        self.published = 0
        self.replied = 0
        self._database = database
        self._name = name
        self._bell = bell
        self._current = current
        self._stopping = stopping
        self._greeted: Link | None = None
        self._told = 0

    def run(self) -> None:
        """Publish until told to stop."""
        while not self._stopping.is_set():
            self._bell.quiet()
            try:
                worked = self._turn()
            except LinkError as error:
                log.warning("the broker does not tell its epoch, trying again: %s", error)
                worked = False
                self._stopping.wait(IDLE_S)
            except Exception:
                log.exception("publishing failed; trying again")
                worked = False
                self._stopping.wait(IDLE_S)
            if not worked:
                self._bell.wait(IDLE_S)

    def _turn(self) -> bool:
        """Do one batch; return whether there may be more to do at once."""
        link = self._current()
        if link is None:
            return False
        if link is not self._greeted:
            self._greet(link)
        return self._send(link) or self._tell_epoch(link)

    def _greet(self, link: Link) -> None:
        """Compare the epoch that the broker holds with ours, and take back what it lost."""
        held = hear_epoch(link.address)
        with self._database.write() as session:
            ours = outbox.last_revision(session)
            if held > ours:
                log.warning(
                    "the broker holds epoch %d and the database knows only %d: the database"
                    " is older than the broker. Nothing is published again",
                    *(held, ours),
                )
                outbox.raise_floor(session, self._name, held)
            lost = outbox.rewind(session, held)
        if lost:
            log.info(
                "the broker lost what came after epoch %d: publishing %d topics again",
                *(held, lost),
            )
        self._greeted = link
        self._told = held

    def _send(self, link: Link) -> bool:
        limit = min(MAX_BATCH, link.window)
        replies = self._bell.take_replies(limit)
        with self._database.read() as session:
            rows = outbox.pending(session, limit - len(replies), MAX_BATCH_BYTES)
        if not replies and not rows:
            return False
        parcels = [Parcel(row.topic, row.payload, retain=True) for row in rows]
        parcels += [Parcel(each.topic, each.payload, retain=False) for each in replies]
        accepted = link.publish(parcels)
        self._mark([row for row, fine in zip(rows, accepted, strict=False) if fine])
        self._settle_replies(link, replies, accepted[len(rows) :])
        return all(accepted)

    def _mark(self, rows: list[Entry]) -> None:
        if rows:
            with self._database.write() as session:
                outbox.mark_published(session, rows)
            self.published += len(rows)

    def _settle_replies(
        self, link: Link, replies: Sequence[Reply], accepted: Sequence[bool]
    ) -> None:
        self.replied += sum(accepted)
        lost = [reply for reply, fine in zip(replies, accepted, strict=True) if not fine]
        if lost and not link.is_open:
            self._bell.give_back(lost)
        elif lost:
            log.warning(
                "the broker refused %d replies, first on %s", len(lost), lost[0].topic
            )

    def _tell_epoch(self, link: Link) -> bool:
        """Publish the epoch if it rose. When idle: it may lag, not lie."""
        with self._database.read() as session:
            epoch = outbox.epoch(session)
        if epoch <= self._told:
            return False
        if not all(link.publish([Parcel(topics.EPOCH, b"%d" % epoch, retain=True)])):
            return False
        self._told = epoch
        return True
