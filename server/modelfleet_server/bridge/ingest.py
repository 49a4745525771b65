"""What arrives: gathered into batches, handled in one transaction each, acknowledged."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from paho.mqtt.client import MQTTMessage
from sqlalchemy import update
from sqlmodel import col

from modelfleet_manifests.topics import parse_topic
from modelfleet_server.bridge.link import Link
from modelfleet_server.bridge.message import Handler, Message, matches
from modelfleet_server.bridge.tables import BridgeState
from modelfleet_server.kit.db import Database

log = logging.getLogger(__name__)

MAX_BATCH = 1000
LINGER_S = 0.05
"""How long a batch may take to gather, from its first message."""

QUIET_S = 0.005
"""A batch is complete when nothing came for so long."""

MAX_WAITING = 10_000
"""Messages in memory. The broker's window keeps QoS 1 far below; only QoS 0 can be more."""

FIRST_DELAY_S, LAST_DELAY_S = 0.2, 10.0


class Route(NamedTuple):
    """Which messages go to which handler."""

    topic_filter: str
    handler: Handler


class Arrival(NamedTuple):
    """A message and where to acknowledge it; `mid` is 0 for QoS 0."""

    link: Link
    mid: int
    message: Message


class Ingest:
    """The handling thread and the queue before it.

    A message is acknowledged to the broker after the commit of its batch, so one that was
    not committed comes again. A message whose handler raises is found by halving the batch;
    it is logged, counted and dropped, and all others are handled.

    Args:
        database: Each batch is one write transaction.
        routes: In the order in which handlers are called within a batch.
        stopping: Ends the thread after the batch in hand.
    """

    def __init__(
        self, database: Database, routes: Sequence[Route], stopping: threading.Event
    ) -> None:
        self.ingested = 0
        self.dropped = 0
        self.overflowed = 0
        self._database = database
        self._routes = routes
        self._stopping = stopping
        self._arrivals: queue.Queue[Arrival | None] = queue.Queue(MAX_WAITING)

    def receive(self, link: Link, message: MQTTMessage) -> None:
        """Take in a message; in the link's thread."""
        address = parse_topic(message.topic)
        arrival = Arrival(
            link,
            message.mid if message.qos else 0,
            Message(
                topic=message.topic,
                payload=bytes(message.payload),
                device=address.device if address else None,
                retained=message.retain,
            ),
        )
        try:
            self._arrivals.put_nowait(arrival)
        except queue.Full:
            self.overflowed += 1
            if arrival.mid:  # never acknowledged, so it comes again with the next link
                link.give_up("more messages arrived than memory is set aside for")

    def wake(self) -> None:
        """Have the thread look whether it should stop."""
        with contextlib.suppress(queue.Full):  # then it is awake
            self._arrivals.put_nowait(None)

    def run(self) -> None:
        """Handle batches until told to stop."""
        while not self._stopping.is_set():
            batch = self._gather()  # empty when woken to stop
            if batch and self._settle([arrival.message for arrival in batch]):
                for arrival in batch:
                    if arrival.mid:
                        arrival.link.ack(arrival.mid)

    def _gather(self) -> list[Arrival]:
        first = self._arrivals.get()
        if first is None:
            return []
        batch = [first]
        end = time.monotonic() + LINGER_S
        while len(batch) < MAX_BATCH and (left := end - time.monotonic()) > 0:
            try:
                arrival = self._arrivals.get(timeout=min(QUIET_S, left))
            except queue.Empty:
                break
            if arrival is None:
                break
            batch.append(arrival)
        return batch

    def _settle(self, messages: list[Message]) -> bool:
        """Commit or drop every message; return False if stopped before that."""
        delay = FIRST_DELAY_S
        while True:
            try:
                self._handle(messages)
            except Exception as error:  # noqa: BLE001 a handler may raise anything
                if self._can_write():
                    return self._split(messages, error)
                log.warning(
                    "the database does not take %d messages: %s", len(messages), error
                )
            else:
                self.ingested += len(messages)
                return True
            if self._stopping.wait(delay):
                return False
            delay = min(2 * delay, LAST_DELAY_S)

    def _split(self, messages: list[Message], error: Exception) -> bool:
        if len(messages) == 1:
            log.error(
                "dropping a message on %s of %d bytes, its handler failed",
                *(messages[0].topic, len(messages[0].payload)),
                exc_info=error,
            )
            self.dropped += 1
            return True
        middle = len(messages) // 2
        return self._settle(messages[:middle]) and self._settle(messages[middle:])

    def _handle(self, messages: list[Message]) -> None:
        with self._database.write() as session:
            for route in self._routes:
                mine = [
                    each for each in messages if matches(route.topic_filter, each.topic)
                ]
                if mine:
                    route.handler(session, mine)

    def _can_write(self) -> bool:
        """Find out who is to blame for an exception: the message, or the database."""
        try:
            with self._database.write() as session:
                session.execute(update(BridgeState).values(floor=col(BridgeState.floor)))
        except Exception as error:  # noqa: BLE001 whatever it is, it is not the message
            log.debug("the database does not take a trivial write: %s", error)
            return False
        return True
