"""The outbox: the newest word of each topic, and how far the broker has it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.server.bridge.conftest import make_database

from modelfleet_server.bridge import outbox
from modelfleet_server.bridge.tables import BridgeState
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import InvalidError

ALL = 10_000


def put(database: Database, topic: str, payload: bytes) -> int:
    with database.write() as session:
        return outbox.put(session, topic, payload)


def pending(
    database: Database, limit: int = ALL, max_bytes: int = 10**9
) -> list[outbox.Entry]:
    with database.read() as session:
        return outbox.pending(session, limit, max_bytes)


def mark(database: Database, *entries: outbox.Entry) -> None:
    with database.write() as session:
        outbox.mark_published(session, entries)


def epoch(database: Database) -> int:
    with database.read() as session:
        return outbox.epoch(session)


def test_a_newer_payload_replaces_an_older_one_that_was_not_sent(
    database: Database,
) -> None:
    put(database, "a", b"1")
    put(database, "b", b"2")
    newest = put(database, "a", b"3")
    assert [(each.topic, each.payload) for each in pending(database)] == [
        ("b", b"2"),
        ("a", b"3"),
    ]
    assert newest == 3


def test_the_acknowledgement_of_an_older_version_leaves_the_newer_one_pending(
    database: Database,
) -> None:
    put(database, "a", b"1")
    [sent] = pending(database)
    put(database, "a", b"2")
    mark(database, sent)
    assert [each.payload for each in pending(database)] == [b"2"]


def test_the_epoch_lies_below_the_oldest_change_that_is_pending(database: Database) -> None:
    for topic in "abc":
        put(database, topic, b"")
    first, second, third = pending(database)
    mark(database, first, third)
    assert epoch(database) == 1
    mark(database, second)
    assert epoch(database) == 3


def test_again_sends_the_same_payload_under_a_new_revision(database: Database) -> None:
    put(database, "a", b"word")
    mark(database, *pending(database))
    with database.write() as session:
        assert outbox.again(session, "a")
        assert not outbox.again(session, "unknown")
    assert pending(database) == [outbox.Entry("a", b"word", 2)]


def test_a_batch_keeps_to_its_number_and_bytes_but_is_never_empty(
    database: Database,
) -> None:
    for topic in "abcd":
        put(database, topic, bytes(1000))
    assert len(pending(database, limit=3)) == 3
    assert len(pending(database, max_bytes=2500)) == 2
    assert len(pending(database, max_bytes=1)) == 1


def test_what_was_rolled_back_is_not_in_the_outbox(database: Database) -> None:
    with pytest.raises(InvalidError), database.write() as session:  # noqa: PT012
        outbox.put(session, "a", b"word")
        outbox.put(session, "#", b"word")
    assert pending(database) == []


def test_revisions_stay_above_an_epoch_that_some_broker_holds(database: Database) -> None:
    with database.write() as session:
        session.add(BridgeState(name="bridge", client_id="c"))
        session.flush()
        outbox.raise_floor(session, "bridge", 1000)
    assert put(database, "a", b"") == 1001


@pytest.mark.parametrize("topic", ["", "a/+/b", "a/#", "a\0b", "x" * 256])
def test_a_topic_that_cannot_be_published_to_is_refused(
    database: Database, topic: str
) -> None:
    with pytest.raises(InvalidError, match="cannot be published to"):
        put(database, topic, b"")


def test_a_payload_over_256_kib_is_refused_by_topic_and_size(database: Database) -> None:
    put(database, "a", bytes(256 * 1024))
    with pytest.raises(InvalidError, match="payload for a has 262145 bytes"):
        put(database, "a", bytes(256 * 1024 + 1))


def test_pending_entries_are_found_without_reading_the_whole_table(
    database: Database,
) -> None:
    with database.read() as session:
        plan = session.connection().exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT topic, payload, revision FROM outbox"
            " WHERE outbox.published < outbox.revision ORDER BY outbox.revision LIMIT 200"
        )
        assert "USING INDEX ix_outbox_pending" in " ".join(str(row) for row in plan)


class ForgetfulBroker(RuleBasedStateMachine):
    """Any history of changes, publishing, snapshots and crashes ends with the newest words.

    The model is a broker that keeps what it is told, saves snapshots when it likes, and
    falls back to the last one when it crashes.
    """

    @initialize()
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        self.database = make_database(Path(self.folder.name) / "fleet.db")
        self.wishes: dict[str, bytes] = {}
        self.kept: dict[str, bytes] = {}
        self.snapshot: dict[str, bytes] = {}

    @rule(topic=st.sampled_from("abc"), payload=st.binary(max_size=2))
    def change(self, topic: str, payload: bytes) -> None:
        put(self.database, topic, payload)
        self.wishes[topic] = payload

    @rule(limit=st.integers(1, 3), acknowledged=st.integers(0, 3))
    def publish(self, limit: int, acknowledged: int) -> None:
        batch = pending(self.database, limit)
        for entry in batch:
            self.kept[entry.topic] = entry.payload
        mark(self.database, *batch[:acknowledged])

    @rule()
    def tell_epoch(self) -> None:
        self.kept["epoch"] = b"%d" % epoch(self.database)

    @rule()
    def save(self) -> None:
        self.snapshot = dict(self.kept)

    @rule(remembers=st.booleans())
    def crash(self, *, remembers: bool) -> None:
        self.kept = dict(self.snapshot) if remembers else {}
        with self.database.write() as session:
            outbox.rewind(session, int(self.kept.get("epoch", b"0")))

    @invariant()
    def draining_would_give_the_newest_words(self) -> None:
        if not hasattr(self, "kept"):
            return
        drained = self.kept | {each.topic: each.payload for each in pending(self.database)}
        drained.pop("epoch", None)
        assert drained == self.wishes

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.folder.cleanup()


TestForgetfulBroker = ForgetfulBroker.TestCase
TestForgetfulBroker.settings = settings(
    max_examples=40, stateful_step_count=20, deadline=None
)
