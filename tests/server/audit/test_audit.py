"""The audit log cannot be changed, and where it was, that shows."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import select
from tests.support.server import ServerUnderTest

from modelfleet_server.audit import service
from modelfleet_server.audit.domain import GENESIS
from modelfleet_server.audit.service import AuditBrokenError, AuditHead
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.db import Database

COLUMNS = ["at_ms", "actor", "action", "subject", "detail", "previous", "digest"]


def write_entries(database: Database, count: int) -> None:
    with database.write() as session:
        for number in range(count):
            service.record(
                session,
                "user:ada",
                "release.approved",
                f"demo/digits@1.0.{number}",
                {"keys": ["k1", "k2"], "note": "größer"},
                at_ms=1000 + number,
            )


def tamper(database: Database, statement: str) -> None:
    """Do what the triggers forbid, as somebody with the file would."""
    with database.write() as session:
        connection = session.connection()
        connection.execute(text("DROP TRIGGER IF EXISTS audit_entry_no_update"))
        connection.execute(text("DROP TRIGGER IF EXISTS audit_entry_no_delete"))
        connection.execute(text(statement))


def broken_at(database: Database) -> object:
    with database.read() as session, pytest.raises(AuditBrokenError) as caught:
        service.verify(session)
    return caught.value.data["seq"]


def test_an_empty_log_is_whole(database: Database) -> None:
    with database.read() as session:
        assert service.verify(session) == AuditHead(0, GENESIS)


def test_a_log_is_whole_and_its_head_is_the_newest_entry(database: Database) -> None:
    write_entries(database, 5)
    with database.read() as session:
        head = service.verify(session)
        assert head == service.find_head(session)
    assert head.seq == 5


def test_each_entry_names_the_digest_of_the_one_before(database: Database) -> None:
    write_entries(database, 3)
    with database.read() as session:
        rows = session.exec(select(AuditEntry)).all()
    assert [row.previous for row in rows] == [GENESIS, rows[0].digest, rows[1].digest]


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_entry SET actor = 'user:eve'", "DELETE FROM audit_entry"]
)
def test_the_database_refuses_to_change_or_remove_an_entry(
    database: Database, statement: str
) -> None:
    write_entries(database, 2)
    with database.write() as session, pytest.raises(IntegrityError, match="append-only"):
        session.connection().execute(text(statement))


@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_column_is_found_at_its_entry(database: Database, column: str) -> None:
    write_entries(database, 4)
    tamper(database, f"UPDATE audit_entry SET {column} = 7 WHERE seq = 3")
    assert broken_at(database) == 3


def test_a_removed_entry_is_found_at_the_one_after(database: Database) -> None:
    write_entries(database, 4)
    tamper(database, "DELETE FROM audit_entry WHERE seq = 2")
    assert broken_at(database) == 3


def test_a_removed_beginning_is_found(database: Database) -> None:
    write_entries(database, 4)
    tamper(database, "DELETE FROM audit_entry WHERE seq = 1")
    assert broken_at(database) == 2


def test_a_cut_end_shows_only_against_a_head_noted_before(database: Database) -> None:
    write_entries(database, 4)
    with database.read() as session:
        noted = service.verify(session)
    tamper(database, "DELETE FROM audit_entry WHERE seq = 4")
    with database.read() as session:
        assert service.verify(session) != noted


def test_nothing_is_recorded_when_the_change_is_rolled_back(database: Database) -> None:
    with database.write() as session:
        service.record(session, "user:ada", "a.b", "c", {}, at_ms=1)
        session.rollback()
    with database.read() as session:
        assert service.find_head(session).seq == 0


detail = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(details=st.lists(detail, min_size=1, max_size=5))
def test_whatever_was_recorded_verifies(
    details: list[dict[str, object]], database: Database
) -> None:
    with database.write() as session:
        for one in details:
            service.record(session, "user:ada", "a.b", "c", one, at_ms=1)
        assert service.verify(session).seq >= len(details)


def test_detail_that_is_not_json_is_refused(database: Database) -> None:
    with database.write() as session, pytest.raises(ValueError, match="JSON"):
        service.record(session, "user:ada", "a.b", "c", {"x": float("nan")}, at_ms=1)


def test_the_log_can_be_read_in_pages_newest_first(server: ServerUnderTest) -> None:
    write_entries(server.database, 5)
    client = server.client(Role.VIEWER)
    subject = "demo/digits@1.0.3"
    one = client.get("/api/v1/audit", params={"subject": subject}).json()["items"]
    assert [(entry["subject"], entry["detail"]["note"]) for entry in one] == [
        (subject, "größer")
    ]
    seen: list[int] = []
    params = {"limit": "2"}
    while page := client.get("/api/v1/audit", params=params).json():
        seen += [entry["seq"] for entry in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 1


def test_a_broken_log_answers_with_the_entry(server: ServerUnderTest) -> None:
    write_entries(server.database, 3)
    client = server.client(Role.VIEWER)
    assert client.get("/api/v1/audit/verify").json()["seq"] >= 3
    tamper(server.database, "UPDATE audit_entry SET detail = '{}' WHERE seq = 2")
    answer = client.get("/api/v1/audit/verify")
    assert (answer.status_code, answer.json()["code"]) == (409, "audit-broken")
    assert answer.json()["seq"] == 2
