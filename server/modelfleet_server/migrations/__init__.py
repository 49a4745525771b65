"""The database's schema, one numbered revision after another, run at every start.

Tables live in each slice's `tables.py` and are found there by name; nobody registers them.

How a change of the schema is made:

* **Nothing is released yet.** There is one revision, `0001_first`. After any change of a
  `tables.py`, write it anew with `python -m modelfleet_server.migrations first` and commit
  it. A database made before is then of no use: delete it.
* **From the first release on.** `python -m modelfleet_server.migrations revision "why"`
  compares the tables with what the revisions lead to and writes the next file into
  `versions/`. Read it: a rename looks like a drop and an add, and new columns without a
  default need their values filled in. A released revision is never edited.

A table with `__table_args__ = {"info": {"append_only": True}}` gets triggers that refuse
UPDATE and DELETE. A test compares the revisions with the tables.
"""

import importlib
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, text
from sqlmodel import SQLModel

import modelfleet_server
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import UnavailableError
from modelfleet_server.migrations.triggers import forbid_changes

FOLDER = Path(__file__).parent


class SchemaError(UnavailableError):
    """The database was made by another version of the server."""

    code = "schema"


def load_tables() -> MetaData:
    """Import every slice's `tables` module and return what they define together."""
    # looked for on disk: asking the import system would load every slice, also the command
    for found in sorted(FOLDER.parent.glob("*/tables.py")):
        importlib.import_module(f"{modelfleet_server.__name__}.{found.parent.name}.tables")
    return SQLModel.metadata


def upgrade(database: Database) -> None:
    """Bring the database to the newest revision, in one transaction.

    Raises:
        SchemaError: It has a revision that this server does not know.
        UnavailableError: Another process holds the database.
    """
    # rebuilding a table drops it first, which would cascade into those that refer to it
    migrator = Database(database.url, enforce_keys=False)
    try:
        with migrator.write() as session:
            connection = session.connection()
            _require_known(connection)
            command.upgrade(alembic_config(connection), "head")
            if connection.dialect.name == "sqlite":
                _require_whole(connection)
    finally:
        migrator.close()


def create_all(database: Database) -> None:
    """Make all tables and triggers in an empty database at once, for tests.

    The same schema as `upgrade` (a test says so), ten times as fast, and right also while
    `0001_first` is not written anew yet.
    """
    metadata = load_tables()
    with database.write() as session:
        connection = session.connection()
        metadata.create_all(connection)
        for table in metadata.sorted_tables:
            if table.info.get("append_only"):
                forbid_changes(
                    lambda statement: connection.execute(text(statement)),
                    connection.dialect.name,
                    table.name,
                )


def differences(database: Database) -> list[object]:
    """Return what must change in the database to match the tables; empty when nothing."""
    metadata = load_tables()
    with database.read() as session:
        context = MigrationContext.configure(session.connection())
        return list(compare_metadata(context, metadata))


def alembic_config(connection: Connection) -> Config:
    """Return alembic's configuration to run on this connection, in its transaction."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    config.attributes["metadata"] = SQLModel.metadata
    return config


def _require_known(connection: Connection) -> None:
    current = MigrationContext.configure(connection).get_current_revision()
    known = {path.stem.partition("_")[0] for path in (FOLDER / "versions").glob("0*_*.py")}
    if current is not None and current not in known:
        raise SchemaError(
            f"the database has schema revision {current}, this server knows {max(known)}",
            "Start the newer server that wrote it, or restore a backup.",
            revision=current,
        )


def _require_whole(connection: Connection) -> None:
    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    if broken:
        raise SchemaError(f"after the upgrade rows refer to missing ones: {broken[:5]}")
