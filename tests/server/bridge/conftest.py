"""A real broker, a real bridge and real devices on a database of the test's own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlmodel import SQLModel
from tests.support.brokers import KINDS, make_broker
from tests.support.mqtt import Peer, peers
from tests.support.waiting import eventually

from modelfleet_server.bridge import outbox
from modelfleet_server.bridge.message import Handler
from modelfleet_server.bridge.service import Bridge
from modelfleet_server.broker.address import Address
from modelfleet_server.broker.child import ChildBroker
from modelfleet_server.kit.db import Database

MakePeer = Callable[..., Peer]


class Rig:
    """One database, one broker, and bridges between them."""

    def __init__(self, database: Database, broker: ChildBroker) -> None:
        self.database = database
        self.broker = broker
        self.stack = ExitStack()
        self.peer: MakePeer = self.stack.enter_context(peers(self.address))

    @property
    def address(self) -> Address:
        assert self.broker.address is not None
        return self.broker.address

    def bridge(
        self,
        handlers: dict[str, Handler] | None = None,
        name: str = "bridge",
        share: str | None = None,
    ) -> Bridge:
        """Return a started bridge that is stopped at the end."""
        bridge = Bridge(self.database, self.address, name=name, share=share)
        for topic_filter, handler in (handlers or {}).items():
            bridge.on(topic_filter, handler)
        bridge.start()
        self.stack.callback(bridge.stop)
        return bridge

    def put(self, topic: str, payload: bytes) -> int:
        """Change the word on `topic` in a transaction of its own."""
        with self.database.write() as session:
            return outbox.put(session, topic, payload)

    def backlog(self) -> int:
        with self.database.read() as session:
            return outbox.backlog(session)

    def published(self) -> None:
        """Wait until the broker has everything, the epoch too."""
        eventually(lambda: self.backlog() == 0, "the outbox is empty")
        with self.database.read() as session:
            epoch = outbox.epoch(session)
        eventually(lambda: self.kept("mf/v1/epoch") == b"%d" % epoch, "the epoch is told")

    def kept(self, topic: str) -> bytes | None:
        """Return what the broker has retained on `topic`, as a late subscriber finds it."""
        late = self.peer()
        late.subscribe("mf/v1/#", "test/#")
        late.publish("test/fence", b"")
        late.wait_for("test/fence")
        late.leave()
        found = late.payloads(topic)
        return found[-1] if found else None


def make_database(path: Path) -> Database:
    """Return a new database with the bridge's tables only: faster than with all."""
    database = Database(f"sqlite:///{path}")
    with database.write() as session:
        SQLModel.metadata.create_all(
            session.connection(),
            tables=[SQLModel.metadata.tables[name] for name in ("outbox", "bridge_state")],
        )
    return database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = make_database(tmp_path / "fleet.db")
    yield database
    database.close()


@pytest.fixture
def rig(broker: ChildBroker, database: Database) -> Iterator[Rig]:
    rig = Rig(database, broker)
    yield rig
    rig.stack.close()


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChildBroker]:
    broker = make_broker(request.param, tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()
