import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from sqlmodel import Session
from tests.support.fleet import FleetUnderTest, begin, make_signer
from tests.support.waiting import eventually

from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.parts import Parts
from modelfleet_server.kit.problems import register_problems
from modelfleet_server.trust import served


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> FleetUnderTest:
    return begin(database, tmp_path)


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session


@pytest.fixture
def fresh(database: Database, tmp_path: Path) -> FleetUnderTest:
    """A fleet begun now: a client judges expiry by its own clock."""
    return begin(database, tmp_path, now_ms=now_ms())


@pytest.fixture
def url(database: Database, tmp_path: Path) -> Iterator[str]:
    app = FastAPI()
    app.state.parts = Parts()
    app.state.parts.put(database)
    register_problems(app)
    app.include_router(served.public)
    keys = tmp_path / "keys" / "online.key"  # they are there once somebody asks
    app.dependency_overrides[served.find_signer] = lambda: make_signer(keys)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started, "the server listens")
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)
