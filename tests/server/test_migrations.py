"""The revisions lead to the tables, once and again, and an unknown schema is left alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from modelfleet_server import migrations
from modelfleet_server.kit.db import Database


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/empty.db")
    yield database
    database.close()


def schema(database: Database, kind: str) -> dict[str, str]:
    with database.read() as session:
        rows = session.connection().execute(
            text("SELECT name, sql FROM sqlite_master WHERE type = :kind"), {"kind": kind}
        )
        return {name: sql for name, sql in rows if "alembic_version" not in name}


def test_the_revisions_lead_to_the_tables(empty: Database) -> None:
    """If a `tables.py` changed: `python -m modelfleet_server.migrations first`."""
    migrations.upgrade(empty)
    assert migrations.differences(empty) == []


def test_the_shortcut_for_tests_makes_the_same_schema(
    empty: Database, database: Database
) -> None:
    migrations.upgrade(empty)
    assert schema(empty, "trigger") == schema(database, "trigger")
    assert schema(empty, "trigger").keys() >= {
        "audit_entry_no_update",
        "audit_entry_no_delete",
    }
    assert schema(empty, "table").keys() == schema(database, "table").keys()
    assert schema(empty, "index").keys() == schema(database, "index").keys()


def test_an_upgrade_of_what_is_new_already_changes_nothing(empty: Database) -> None:
    migrations.upgrade(empty)
    before = schema(empty, "table")
    migrations.upgrade(empty)
    assert schema(empty, "table") == before


def test_a_missing_column_is_seen(database: Database) -> None:
    with database.write() as session:
        session.connection().execute(text("ALTER TABLE blob DROP COLUMN created_ms"))
    assert "created_ms" in str(migrations.differences(database))


def test_a_database_of_a_newer_server_is_left_alone(empty: Database) -> None:
    migrations.upgrade(empty)
    with empty.write() as session:
        session.connection().execute(
            text("UPDATE alembic_version SET version_num = '9999'")
        )
    with pytest.raises(migrations.SchemaError, match="9999"):
        migrations.upgrade(empty)
    with empty.read() as session:
        found = session.connection().execute(
            text("SELECT version_num FROM alembic_version")
        )
        assert found.scalar() == "9999"


def test_an_upgrade_that_fails_leaves_nothing_behind(empty: Database) -> None:
    with empty.write() as session:  # in the way of the first revision
        session.connection().execute(text("CREATE TABLE users (name TEXT)"))
    with pytest.raises(Exception, match="users"):
        migrations.upgrade(empty)
    assert schema(empty, "table").keys() == {"users"}
