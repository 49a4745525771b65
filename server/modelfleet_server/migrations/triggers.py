"""Triggers that make a table append-only."""

from collections.abc import Callable

_SQLITE = """CREATE TRIGGER {table}_no_{word} BEFORE {event} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"""

_POSTGRESQL = (
    """CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$""",
    """CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()""",
)


def forbid_changes(execute: Callable[[str], object], dialect: str, table: str) -> None:
    """Make UPDATE and DELETE on `table` fail.

    Args:
        execute: Runs one SQL statement.
        dialect: `sqlite` or `postgresql`.
        table: Its name; from our own metadata, never from input.
    """
    if dialect == "sqlite":
        for event in ("UPDATE", "DELETE"):
            execute(_SQLITE.format(table=table, word=event.lower(), event=event))
    else:
        for statement in _POSTGRESQL:
            execute(statement.replace("{table}", table))
