"""Each of the eight states, reached by what devices sign; counts and lists agree."""

from dataclasses import dataclass

import httpx2
import pytest
from tests.support.devices import SimDevice
from tests.support.lines import (
    fleet_of,
    make_engine,
    make_line,
    operate,
    publish_releases,
    target,
)
from tests.support.server import ServerUnderTest

from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.wanted import Hold
from modelfleet_server.compliance.store import STALE_MS
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.clock import now_ms


@dataclass
class Line:
    """Two devices of one group, and three releases; 1.0.0 is deployed and runs."""

    server: ServerUnderTest
    devices: list[SimDevice]
    releases: dict[str, ReleaseRef]

    @property
    def viewer(self) -> httpx2.Client:
        return self.server.client(Role.VIEWER)

    def verdict(self, device: str = "cam-0") -> dict[str, str]:
        return dict(self.viewer.get(f"/api/v1/compliance/{device}").json())

    def overview(self, **asks: str) -> dict[str, object]:
        return dict(self.viewer.get("/api/v1/compliance", params=asks).json())


@pytest.fixture
def line(server: ServerUnderTest) -> Line:
    releases = publish_releases(server, "1.0.0", "1.1.0")
    devices = make_line(server, 2)
    operate(server, "deployments", **target("1.0.0"))
    for device in devices:
        device.follow()
    make_engine(server).tick()
    return Line(server, devices, releases)


def test_a_device_that_runs_what_it_must_is_compliant(line: Line) -> None:
    verdict = line.verdict()
    assert verdict["state"] == "compliant"
    assert (verdict["wants"], verdict["runs"]) == ("1.0.0", "1.0.0")
    assert verdict["next"] == "Nothing to do."


def test_a_device_that_never_reported_is_unknown(line: Line) -> None:
    SimDevice.enrol(line.server, "cam-9", labels={"line": "a"})
    assert line.verdict("cam-9")["state"] == "unknown"
    assert line.verdict("cam-9")["reason"] == "It has never reported."


def test_a_device_outside_the_wave_waits_and_says_so(line: Line) -> None:
    wish = target("1.1.0", waves=["device:cam-1", "all"], start=True)
    operate(line.server, "rollouts", **wish)
    assert line.verdict()["state"] == "waiting"
    assert "newest order" in line.verdict()["reason"]
    line.devices[0].follow()
    # it runs what the step below gives, and that is what it must run for now
    assert line.verdict()["state"] == "compliant"


def test_a_paused_first_deployment_leaves_devices_waiting(server: ServerUnderTest) -> None:
    publish_releases(server, "1.0.0")
    (device,) = make_line(server, 1)
    made = operate(server, "rollouts", **target("1.0.0"), start=True, gate=None)
    operate(server, f"rollouts/{made['id']}/moves", event="pause")
    device.follow()
    verdict = Line(server, [device], {}).verdict()
    assert (verdict["state"], verdict["reason"]) == ("waiting", "The rollout is paused.")


def test_a_device_in_the_middle_of_an_update_is_updating(line: Line) -> None:
    device = line.devices[0]
    said = device.describe("digits", phase="fetching", detail="12 of 80 KB")
    device.report(digits=said)
    verdict = line.verdict()
    assert verdict["state"] == "updating"
    assert verdict["reason"] == "Fetching: 12 of 80 KB."


def test_a_device_on_which_a_release_failed_has_failed(line: Line) -> None:
    device = line.devices[0]
    device.breaks.add(line.releases["1.1.0"].id)
    operate(line.server, "deployments", **target("1.1.0"))
    device.follow()
    verdict = line.verdict()
    # the step below keeps it serving, but it is not where the fleet wants it
    assert verdict["runs"] == "1.0.0"
    assert verdict["state"] == "failed"


@pytest.mark.parametrize(
    ("reason", "state"), [("no-space", "failed"), ("bit-rot", "drifted")]
)
def test_what_a_device_could_not_do_is_no_update(
    line: Line, reason: str, state: str
) -> None:
    device = line.devices[0]
    said = device.describe("digits", action="install", reason=reason, detail="81 MB short")
    device.report(digits=said)
    assert line.verdict()["state"] == state


@pytest.mark.parametrize("reason", list(Hold))
def test_a_device_that_its_own_settings_hold_back_waits_and_says_why(
    line: Line, reason: str
) -> None:
    operate(line.server, "deployments", **target("1.1.0"))
    device = line.devices[0]
    device.hear()
    said = device.describe("digits", action="install", reason=reason, detail="until 02:00")
    device.report(digits=said)
    verdict = line.verdict()
    assert verdict["state"] == "waiting"
    assert verdict["reason"] == "Its own settings hold it back: until 02:00."
    (slot,) = line.viewer.get("/api/v1/devices/cam-0/why").json()["slots"]
    assert (slot["device_reason"], slot["agree"]) == (reason, True)


def test_an_altered_file_is_drift_until_it_is_repaired(line: Line) -> None:
    device = line.devices[0]
    device.slots["digits"].intact = False
    device.report()
    assert line.verdict()["state"] == "drifted"
    device.slots["digits"].intact = True
    device.report()
    assert line.verdict()["state"] == "compliant"


def test_a_device_that_runs_a_revoked_release_is_revoked(line: Line) -> None:
    with line.server.database.write() as session:
        fleet_of(line.server).recall(session, line.releases["1.0.0"].id, now_ms=now_ms())
    assert line.verdict()["state"] == "revoked"
    assert line.verdict()["next"].startswith("Take it out of service")


def test_silence_is_a_state_of_its_own_and_comes_by_clock(line: Line) -> None:
    line.devices[0].clock = lambda: now_ms() - STALE_MS - 1000
    line.devices[0].report()
    assert line.verdict()["state"] == "stale"


def test_the_worst_slot_decides(line: Line) -> None:
    publish_releases(line.server, "2.0.0", model="demo/faces", slot="faces")
    wish = {"group": "line", "slot": "faces", "model": "demo/faces", "version": "2.0.0"}
    operate(line.server, "deployments", **wish)
    device = line.devices[0]
    device.follow()
    assert line.verdict()["state"] == "compliant"
    device.slots["faces"].intact = False
    device.report()
    assert line.verdict()["state"] == "drifted"
    states = {one["slot"]: one["state"] for one in line.verdict()["slots"]}  # type: ignore[index]
    assert states == {"digits": "compliant", "faces": "drifted"}


def test_counts_are_exclusive_sum_up_and_agree_with_the_lists(line: Line) -> None:
    SimDevice.enrol(line.server, "cam-8", labels={"line": "a"})
    SimDevice.enrol(line.server, "other").follow()
    line.devices[0].slots["digits"].intact = False
    line.devices[0].report()
    for group, total in ((None, 4), ("line", 3)):
        asks = {"group": group} if group else {}
        seen = line.overview(**asks)
        counts = seen["counts"]
        assert isinstance(counts, dict)
        assert seen["total"] == sum(counts.values()) == total
        for state, count in counts.items():
            listed = line.overview(state=state, **asks)["items"]
            assert isinstance(listed, list)
            assert [one["state"] for one in listed] == [state] * count


def test_a_group_that_governs_nothing_tells_of_its_members_what_others_govern(
    line: Line,
) -> None:
    operate(line.server, "groups", name="hall", devices=["cam-1"])
    line.devices[1].slots["digits"].intact = False
    line.devices[1].report()
    seen = line.viewer.get("/api/v1/compliance", params={"group": "hall"}).json()
    assert (seen["total"], seen["counts"]["drifted"]) == (1, 1)
    assert [slot["slot"] for slot in seen["items"][0]["slots"]] == ["digits"]
