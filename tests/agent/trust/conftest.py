from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.solo import SoloFleet, make_release
from tests.support.solo_device import EnrolledDevice, enrol_device
from tests.support.solo_http import FleetServer, serve

from modelfleet_manifests.release import ReleaseRef


@pytest.fixture
def fleet() -> SoloFleet:
    return SoloFleet()


@pytest.fixture
def server(fleet: SoloFleet) -> Iterator[FleetServer]:
    with serve(fleet) as server:
        yield server


@pytest.fixture
def device(server: FleetServer, tmp_path: Path) -> EnrolledDevice:
    return enrol_device(server, tmp_path / "agent", "dev-1")


@pytest.fixture
def ref(fleet: SoloFleet) -> ReleaseRef:
    ref = fleet.add_release(make_release(fleet.files, "1.0.0"))
    fleet.publish()
    return ref
