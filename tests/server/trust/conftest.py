import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from sqlmodel import Session
from tests.support.fleet import (
    ACTOR,
    NOW,
    FleetUnderTest,
    begin,
    fetcher,
    make_release,
    make_signer,
)
from tests.support.people import Office, TrustDevice
from tests.support.waiting import eventually

from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.parts import Parts
from modelfleet_server.kit.problems import register_problems
from modelfleet_server.trust import approving, proposing, served
from modelfleet_server.trust.approving import InForce, ProposalCopy
from modelfleet_server.trust.domain import State


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


@pytest.fixture
def office(database: Database, fleet: FleetUnderTest, tmp_path: Path) -> Office:
    """A solo fleet with one release."""
    office = Office(fleet, database, tmp_path / "keys" / "online.key")
    assert office.release(make_release(), office.solo) is State.PUBLISHED
    return office


@pytest.fixture
def device(url: str, office: Office, tmp_path: Path) -> TrustDevice:
    """It saw the first release, and then goes on as a test wants."""
    device = TrustDevice(url, office.fleet.fleet, tmp_path / "device")
    assert device.refresh(make_release()).code == ""
    return device


@pytest.fixture
def copy(session: Session, fleet: FleetUnderTest) -> ProposalCopy:
    """The first release of a fleet, as an approver downloads it."""
    proposal = proposing.propose_release(
        session, make_release(), slots=["digits"], actor=ACTOR, now_ms=NOW
    )
    return fleet.copy_of(session, proposal)


@pytest.fixture
def held(session: Session, fleet: FleetUnderTest, copy: ProposalCopy) -> InForce:
    return approving.fetch_in_force(fetcher(session), fleet.fleet, copy.roles)
