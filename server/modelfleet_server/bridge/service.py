"""The bridge as a part of the server: threads, reconnecting, counters."""

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from sqlmodel import Session

from modelfleet_server.bridge import outbox
from modelfleet_server.bridge.bell import Reply, bell_in, bell_of
from modelfleet_server.bridge.ingest import Ingest, Route
from modelfleet_server.bridge.link import Link, LinkError
from modelfleet_server.bridge.message import Handler
from modelfleet_server.bridge.publisher import Publisher
from modelfleet_server.bridge.tables import BridgeState
from modelfleet_server.broker.address import Address
from modelfleet_server.kit.db import Database, after_commit
from modelfleet_server.kit.errors import UnavailableError
from modelfleet_server.kit.ids import new_id

log = logging.getLogger(__name__)

FIRST_DELAY_S, LAST_DELAY_S = 0.25, 10.0
_LEAVE_S = 15.0
_system = secrets.SystemRandom()


@dataclass(frozen=True)
class BridgeStatus:
    """What the bridge does now, and has done since it was started.

    Attributes:
        connected: Subscribed at the broker and able to publish.
        broker: Its address.
        trouble: Why it is not connected, empty when it is.
        published: Versions of retained topics that the broker acknowledged.
        replied: Replies that the broker acknowledged.
        ingested: Messages handled and committed.
        dropped: Messages given up: their handler failed on them, or (QoS 0 only) there were
            more than fit in memory.
        backlog: Topics whose newest version the broker does not have yet.
        epoch: Highest revision up to which the broker has everything.
    """

    connected: bool
    broker: str
    trouble: str
    published: int
    replied: int
    ingested: int
    dropped: int
    backlog: int
    epoch: int


def reply(session: Session, topic: str, payload: bytes) -> None:
    """Publish `payload` after this transaction's commit, not retained, at least once.

    It waits in memory while the broker is away and is lost with the process: use it for
    what the other side asks again, like the cumulative `ack`.
    """
    bell = bell_in(session)
    after_commit(session, lambda: bell.hand_over(Reply(topic, payload)))


class Bridge:
    """The server's one client of the broker.

    Only one bridge may publish from an outbox. Several may share the ingest.

    Args:
        database: With the outbox; handlers write into it.
        address: Of the broker, see `broker.choice`.
        name: Of this process among several.
        share: Name of the group that shares what arrives (`$share/<group>/...`), None for a
            bridge that takes in all.
        chance: Returns a number in [0, 1); for the jitter of reconnecting.
    """

    def __init__(
        self,
        database: Database,
        address: Address,
        *,
        name: str = "bridge",
        share: str | None = None,
        chance: Callable[[], float] = _system.random,
    ) -> None:
        self._database = database
        self._address = address
        self._name = name
        self._share = share
        self._chance = chance
        self._routes: list[Route] = []
        self._stopping = threading.Event()
        self._opened = threading.Event()
        self._link: Link | None = None
        self._trouble = "it does not answer"
        self._threads: list[threading.Thread] = []
        self._bell = bell_of(database.engine)
        self._ingest = Ingest(database, self._routes, self._stopping)
        self._publisher = Publisher(
            database, name, self._bell, self._current, self._stopping
        )

    def on(self, topic_filter: str, handler: Handler) -> None:
        """Have `handler` called with what arrives on `topic_filter`; before `start`."""
        if self._threads:
            raise RuntimeError("the bridge has started; register handlers before")
        self._routes.append(Route(topic_filter, handler))

    def start(self, timeout_s: float = 10) -> None:
        """Connect, and keep connected until `stop`.

        Raises:
            UnavailableError: The broker did not let us in within `timeout_s` seconds.
        """
        client_id = self._client_id()
        work = {
            "bridge-link": lambda: self._stay_connected(client_id),
            "bridge-publisher": self._publisher.run,
            "bridge-ingest": self._ingest.run,
        }
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in work.items()
        ]
        for thread in self._threads:
            thread.start()
        if not self._opened.wait(timeout_s):
            trouble = self._trouble
            self.stop()
            raise UnavailableError(
                f"broker {self._address} cannot be used: {trouble}",
                "Start it, or correct the broker's address in the settings.",
                address=str(self._address),
            )

    def stop(self) -> None:
        """Finish the batches in hand, leave the broker, end the threads."""
        self._stopping.set()
        self._bell.ring()
        self._ingest.wake()
        threads, self._threads = self._threads, []
        for thread in reversed(threads):
            if thread is threads[0] and (link := self._link) is not None:
                link.close()  # last, so that what was committed is acknowledged
            thread.join(_LEAVE_S)
            if thread.is_alive():
                log.warning("%s did not end within %.0f s", thread.name, _LEAVE_S)

    def status(self) -> BridgeStatus:
        """Return the present state and counters."""
        with self._database.read() as session:
            backlog, epoch = outbox.backlog(session), outbox.epoch(session)
        connected = self._current() is not None
        return BridgeStatus(
            connected=connected,
            broker=str(self._address),
            trouble="" if connected else self._trouble,
            published=self._publisher.published,
            replied=self._publisher.replied,
            ingested=self._ingest.ingested,
            dropped=self._ingest.dropped + self._ingest.overflowed,
            backlog=backlog,
            epoch=epoch,
        )

    def _current(self) -> Link | None:
        link = self._link
        return link if link is not None and link.is_open else None

    def _client_id(self) -> str:
        with self._database.write() as session:
            state = session.get(BridgeState, self._name)
            if state is None:
                state = BridgeState(
                    name=self._name, client_id=f"mf-{self._name}-{new_id()}"
                )
                session.add(state)
            return state.client_id

    def _filters(self) -> list[str]:
        prefix = f"$share/{self._share}/" if self._share else ""
        return [prefix + route.topic_filter for route in self._routes]

    def _stay_connected(self, client_id: str) -> None:
        delay = FIRST_DELAY_S
        while not self._stopping.is_set():
            link = Link(
                self._address,
                client_id,
                self._filters(),
                receive=self._ingest.receive,
                opened=self._on_opened,
            )
            self._link = link
            try:
                link.run()
            except LinkError as error:
                self._trouble = str(error)
            except Exception as error:
                log.exception("the connection to the broker failed")
                self._trouble = str(error)
            if self._stopping.is_set():
                return
            if link.was_open:
                delay = FIRST_DELAY_S
            log.warning("no connection to broker %s: %s", self._address, self._trouble)
            # full jitter, so that several bridges do not come back in step
            self._stopping.wait(delay * self._chance())
            delay = min(2 * delay, LAST_DELAY_S)

    def _on_opened(self, _link: Link) -> None:
        self._opened.set()
        self._bell.ring()
