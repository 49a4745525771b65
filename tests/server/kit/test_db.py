"""One writer at a time, readers that stay readers, hooks after the commit."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

import pytest
from sqlalchemy import MetaData, func
from sqlalchemy.exc import OperationalError, StatementError
from sqlmodel import Field, Session, SQLModel, col, select

from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.db import Database, after_commit
from modelfleet_server.kit.words import words


class Colour(StrEnum):
    RED = "red-ish"
    BLUE = "blue-ish"


class Note(SQLModel, table=True):
    """A table of this test only, kept out of the server's schema."""

    metadata = MetaData()

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInt)
    place: int = Field(default=0, sa_type=BigInt)
    colour: Colour = Field(default=Colour.RED, sa_type=words(Colour))


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/notes.db")
    with database.write() as session:
        Note.metadata.create_all(session.connection())
    yield database
    database.close()


def count(database: Database) -> int:
    with database.read() as session:
        return session.exec(select(func.count()).select_from(Note)).one()


def append(session: Session) -> None:
    """Read, then write what was read plus one: wrong unless writers take turns."""
    last = session.exec(select(func.max(Note.place))).one() or 0
    session.add(Note(place=last + 1))


def append_and_fail(database: Database, seen: list[str]) -> None:
    with database.write() as session:
        append(session)
        session.flush()
        after_commit(session, lambda: seen.append("ran"))
        raise ZeroDivisionError


def test_writers_that_read_first_never_collide(notes: Database) -> None:
    threads, each = 8, 25
    start = threading.Barrier(threads)

    def work() -> None:
        start.wait()
        for _ in range(each):
            with notes.write() as session:
                append(session)

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()  # SQLITE_BUSY_SNAPSHOT or SQLITE_BUSY would be raised here
    with notes.read() as session:
        places = session.exec(select(Note.place).order_by(col(Note.place))).all()
    assert list(places) == list(range(1, threads * each + 1))


def test_writers_of_two_processes_never_collide(notes: Database) -> None:
    """Two `Database`s share no lock, like two processes: only SQLite is between."""
    others = Database(notes.url)
    start = threading.Barrier(2)

    def work(database: Database) -> None:
        start.wait()
        for _ in range(50):
            with database.write() as session:
                append(session)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(work, one) for one in (notes, others)]:
            future.result()
    others.close()
    with notes.read() as session:
        assert session.exec(select(func.max(Note.place))).one() == 100


def test_a_reader_refuses_to_write(notes: Database) -> None:
    with notes.read() as session:
        session.add(Note())
        with pytest.raises(OperationalError, match="readonly"):
            session.flush()
    with notes.write() as session:  # and leaves the connection usable
        append(session)
    assert count(notes) == 1


def test_a_reader_sees_one_state_while_others_write(notes: Database) -> None:
    with notes.read() as session:
        before = session.exec(select(func.count()).select_from(Note)).one()
        with notes.write() as writer:
            append(writer)
        assert session.exec(select(func.count()).select_from(Note)).one() == before
    assert count(notes) == before + 1


def test_an_exception_rolls_back_and_frees_the_turn(notes: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        append_and_fail(notes, [])
    with notes.write() as session:
        append(session)
    assert count(notes) == 1


def test_hooks_run_in_order_after_the_commit(notes: Database) -> None:
    seen: list[tuple[str, int]] = []
    with notes.write() as session:
        append(session)
        after_commit(session, lambda: seen.append(("first", count(notes))))
        after_commit(session, lambda: seen.append(("second", count(notes))))
        assert seen == []
    assert seen == [("first", 1), ("second", 1)]


def test_hooks_do_not_run_after_a_rollback(notes: Database) -> None:
    seen: list[str] = []
    with pytest.raises(ZeroDivisionError):
        append_and_fail(notes, seen)
    assert seen == []


def test_a_hook_that_fails_is_logged_and_the_next_one_runs(
    notes: Database, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    with notes.write() as session:
        append(session)
        after_commit(session, lambda: seen.remove("nothing"))
        after_commit(session, lambda: seen.append("ran"))
    assert seen == ["ran"]
    assert count(notes) == 1
    assert "ValueError" in caplog.text


def test_a_hook_in_a_session_that_never_commits_is_a_defect(notes: Database) -> None:
    with notes.read() as session, pytest.raises(RuntimeError, match="write"):
        after_commit(session, lambda: None)


def test_a_hook_may_write_in_a_transaction_of_its_own(notes: Database) -> None:
    def write_more() -> None:
        with notes.write() as session:
            append(session)

    with notes.write() as session:
        append(session)
        after_commit(session, write_more)
    assert count(notes) == 2


def test_words_are_stored_as_their_values(notes: Database) -> None:
    with notes.write() as session:
        session.add(Note(colour=Colour.BLUE))
    with notes.read() as session:
        stored = session.connection().exec_driver_sql("SELECT colour FROM note").scalar()
        assert stored == "blue-ish"
        assert session.exec(select(Note)).one().colour is Colour.BLUE


def test_a_word_that_is_none_is_refused(notes: Database) -> None:
    with notes.write() as session:
        note = Note(colour="green")  # type: ignore[arg-type]
        session.add(note)
        with pytest.raises(StatementError, match="green"):
            session.flush()
        session.rollback()
    assert count(notes) == 0
