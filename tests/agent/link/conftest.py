from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.solo import SoloFleet
from tests.support.solo_device import EnrolledDevice, enrol_device
from tests.support.solo_http import FleetServer, serve


@pytest.fixture
def fleet() -> SoloFleet:
    return SoloFleet()


@pytest.fixture
def server(fleet: SoloFleet) -> Iterator[FleetServer]:
    with serve(fleet) as server:
        yield server


@pytest.fixture
def device(server: FleetServer, tmp_path: Path) -> EnrolledDevice:
    device = enrol_device(server, tmp_path / "agent", "dev-1")
    device.refresh()
    return device
