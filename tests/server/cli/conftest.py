"""One server for all tests of this folder; each test uses names of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.commands import Commands
from tests.support.server import PASSPHRASE, ServerUnderTest

from modelfleet_server.app import Duty
from modelfleet_server.kit.access import Role

DUTIES = frozenset({Duty.API, Duty.WORKER, Duty.ROLLOUTS, Duty.SIGNER})


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerUnderTest]:
    """A whole server without a broker: devices hand their reports over by hand."""
    started = ServerUnderTest.start(tmp_path_factory.mktemp("cli") / "fleet", duties=DUTIES)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def admin(fleet: ServerUnderTest, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """Commands of an admin who holds the approver's keys."""
    return commands_of(fleet, tmp_path_factory.mktemp("admin"), Role.ADMIN)


def commands_of(fleet: ServerUnderTest, folder: Path, role: Role) -> Commands:
    return Commands(
        folder,
        {
            "MODELFLEET_SERVER": fleet.url,
            "MODELFLEET_TOKEN": fleet.token(role),
            "MODELFLEET_PASSPHRASE": PASSPHRASE,
            "MODELFLEET_APPROVER_KEY": str(fleet.server.settings.home / "approver.key"),
        },
    )


@pytest.fixture
def nobody(tmp_path: Path) -> Commands:
    """Commands of somebody without a login, a server or a home."""
    return Commands(tmp_path)
