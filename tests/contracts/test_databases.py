"""What the server's database must do for it: one suite, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import MetaData, func, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Field, Session, SQLModel, select
from tests.support.databases import database_url, postgresql

from modelfleet_server import migrations
from modelfleet_server.audit.service import record, verify
from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.db import Database

__all__ = ["database_url", "postgresql"]


class Note(SQLModel, table=True):
    """A table of this test only, kept out of the server's schema."""

    metadata = MetaData()

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInt)
    place: int = Field(default=0, sa_type=BigInt)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    migrations.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def notes(database: Database) -> Database:
    with database.write() as session:
        Note.metadata.create_all(session.connection())
    return database


def append(session: Session) -> None:
    """Read, then write what was read plus one: wrong unless writers take turns."""
    last = session.exec(select(func.max(Note.place))).one() or 0
    session.add(Note(place=last + 1))


def test_the_revisions_lead_to_the_tables(database: Database) -> None:
    assert migrations.differences(database) == []
    migrations.upgrade(database)
    assert migrations.differences(database) == []


def test_writers_of_two_processes_take_turns(notes: Database) -> None:
    """A second `Database` shares no lock with the first, as another process would not."""
    other = Database(notes.url)

    def work(number: int) -> None:
        with (notes, other)[number % 2].write() as session:
            append(session)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(40)))
    other.close()
    with notes.read() as session:
        places = session.exec(select(Note.place).order_by(Note.place)).all()  # type: ignore[arg-type]
    assert list(places) == list(range(1, 41))


def test_a_reader_sees_one_state_and_refuses_to_write(notes: Database) -> None:
    with notes.write() as session:
        append(session)
    with notes.read() as session:
        before = session.exec(select(func.count()).select_from(Note)).one()
        with notes.write() as writer:
            append(writer)
        assert session.exec(select(func.count()).select_from(Note)).one() == before
        session.add(Note(place=99))
        with pytest.raises(DBAPIError):
            session.flush()


def test_what_failed_leaves_nothing(notes: Database) -> None:
    def fail() -> None:
        with notes.write() as session:
            append(session)
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with notes.read() as session:
        assert session.exec(select(Note)).all() == []


def test_milliseconds_and_byte_counts_fit(notes: Database) -> None:
    with notes.write() as session:
        session.add(Note(place=2**53 - 1))
    with notes.read() as session:
        assert session.exec(select(Note.place)).one() == 2**53 - 1


def test_the_audit_log_is_append_only(database: Database) -> None:
    with database.write() as session:
        record(session, "user:ada", "tried", "it", {"how": "well"}, at_ms=1)
    for change in ("UPDATE audit_entry SET actor = 'user:eve'", "DELETE FROM audit_entry"):
        with pytest.raises(DBAPIError, match="append-only"), database.write() as session:
            session.connection().execute(text(change))
    with database.read() as session:
        verify(session)
