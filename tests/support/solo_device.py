"""A device's directory, enrolled in a `SoloFleet`, for tests of parts of the agent."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.support.solo import SoloFleet, random_id
from tests.support.solo_http import FleetServer

from modelfleet_agent.enrol import Enrolment, enrol
from modelfleet_agent.trust.__main__ import perform
from modelfleet_agent.trust.door import TrustDoor
from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.memory import believe, load_floors
from modelfleet_agent.trust.messages import Answer, Recall, Refresh, Wish
from modelfleet_agent.trust.state import TrustState
from modelfleet_agent.trust.timing import Told, TrustedClock
from modelfleet_manifests.names import release_path
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.release import ReleaseRef


@dataclass
class EnrolledDevice:
    """An enrolled device; `refresh` and `recall` do the child's work in this process."""

    directory: Path
    fleet: SoloFleet
    me: Enrolment
    wrong: int | None = None
    """What its wall clock says, where it is wrong: Unix ms."""

    def __post_init__(self) -> None:
        self.reboot()

    def refresh(self, *want: ReleaseRef) -> Answer:
        """Refresh the metadata, and go by the time that is told."""
        answer = perform(
            Refresh(
                directory=str(self.directory),
                fleet=self.me.fleet,
                server=self.me.server,
                token=self.me.token,
                nonce=random_id(),
                want=[Wish(release_path(one.model, one.version), one.id) for one in want],
                ran=self.clock.take_run(),
            ),
            self.rising,
        )
        keys = frozenset(self.state.timekeepers)
        self.clock.forget(keys)
        if answer.time:
            self.clock.confirm(Told(answer.time.time, answer.time.at, keys))
        return answer

    def reboot(self) -> None:
        """Forget what is only in memory."""
        self.clock = TrustedClock(self.wall, self.rising)

    def rising(self) -> int:
        """Return the fleet's time: the device's monotonic clock runs with it."""
        return self.fleet.now

    def wall(self) -> int:
        """Return what the device's wall clock says."""
        return self.fleet.now if self.wrong is None else self.wrong

    def recall(self, payload: bytes) -> Answer:
        """Take in a `trust/recalls` message."""
        return perform(
            Recall(directory=str(self.directory), fleet=self.me.fleet, payload=payload)
        )

    @property
    def state(self) -> TrustState:
        """What the last refresh left."""
        return believe(self.directory, self.me.fleet)

    def door(self) -> TrustDoor:
        """Return the supervisor's door."""
        return TrustDoor(self.directory, self.me, clock=self.clock)


def enrol_device(server: FleetServer, directory: Path, name: str) -> EnrolledDevice:
    """Enrol a device over HTTP."""
    server.claims[f"claim-{name}"] = name
    me = enrol(server.url, f"claim-{name}", directory, Facts())
    return EnrolledDevice(directory, server.fleet, me)


def floors_of(device: EnrolledDevice) -> Floors:
    """Return the floors that a device has on disk."""
    floors = load_floors(device.directory, device.me.fleet)
    assert floors is not None
    return floors


def lose_caches(device: EnrolledDevice) -> None:
    """Remove what a device keeps of the metadata, but not its floors."""
    shutil.rmtree(device.directory / "tuf")
    (device.directory / "trust" / "state.json").unlink()
