from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session
from tests.support.fleet import FleetUnderTest, begin

from modelfleet_server.kit.db import Database


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> FleetUnderTest:
    return begin(database, tmp_path)


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session
