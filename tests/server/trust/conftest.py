from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session, SQLModel

import modelfleet_server.audit.tables
import modelfleet_server.blobs.tables
import modelfleet_server.bridge.tables
import modelfleet_server.trust.tables  # noqa: F401 the tables register themselves
from modelfleet_server.kit.db import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'modelfleet.db'}")
    with database.write() as session:
        SQLModel.metadata.create_all(session.connection())
    yield database
    database.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session
