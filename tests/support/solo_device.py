"""A device's directory, enrolled in a `SoloFleet`, for tests of parts of the agent."""

from dataclasses import dataclass
from pathlib import Path

from tests.support.solo import SoloFleet
from tests.support.solo_http import FleetServer

from modelfleet_agent.enrol import Enrolment, enrol
from modelfleet_agent.trust.__main__ import perform
from modelfleet_agent.trust.door import TrustDoor
from modelfleet_agent.trust.memory import believe
from modelfleet_agent.trust.messages import Answer, Recall, Refresh, Wish
from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.names import release_path
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.release import ReleaseRef


@dataclass
class EnrolledDevice:
    """An enrolled device; `refresh` and `recall` do the child's work in this process."""

    directory: Path
    fleet: SoloFleet
    me: Enrolment

    def refresh(self, *want: ReleaseRef, now: int | None = None) -> Answer:
        """Refresh the metadata at `now`, the fleet's time where it is not given."""
        return perform(
            Refresh(
                directory=str(self.directory),
                fleet=self.me.fleet,
                server=self.me.server,
                token=self.me.token,
                now=self.fleet.now if now is None else now,
                want=[Wish(release_path(one.model, one.version), one.id) for one in want],
            )
        )

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
        """Return the supervisor's door; its clock is the fleet's."""
        return TrustDoor(self.directory, self.me, clock=lambda: self.fleet.now)


def enrol_device(server: FleetServer, directory: Path, name: str) -> EnrolledDevice:
    """Enrol a device over HTTP."""
    server.claims[f"claim-{name}"] = name
    me = enrol(server.url, f"claim-{name}", directory, Facts())
    return EnrolledDevice(directory, server.fleet, me)
