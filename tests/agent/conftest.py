"""Real agents for tests of the whole supervisor."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agent.rig import Rig
from tests.support.brokers import make_broker
from tests.support.solo import SoloFleet
from tests.support.solo_http import serve

from modelfleet_agent.clock import now_ms


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    child = make_broker("embedded", tmp_path_factory.mktemp("broker"))
    yield child.start()
    child.stop()


@pytest.fixture
def rig(tmp_path: Path, broker: tuple[str, int]) -> Iterator[Rig]:
    """A device that is enrolled; its agent is not started."""
    fleet = SoloFleet(now=now_ms())
    fleet.tells = now_ms
    with serve(fleet) as server:
        made = Rig(tmp_path / "agent", server, broker)
        made.enrol()
        yield made
        made.close()
