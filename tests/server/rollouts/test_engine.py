"""Rollouts from end to end on a real server: devices answer by what they sign."""

from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from sqlmodel import func, select
from tests.support.devices import ARM64, SimDevice
from tests.support.lines import make_engine, make_line, operate, publish_releases, target
from tests.support.server import ServerUnderTest

from modelfleet_manifests.deployment import Deployment, Paused, Step
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.topics import deployment_topic
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.rollouts.engine import RolloutEngine
from modelfleet_server.trust import director as documents
from modelfleet_server.trust.tables import DirectorDocument

MINUTE_MS = 60_000
GATE = {"min_labelled": 200, "deadline_ms": 10 * MINUTE_MS}


@dataclass
class Clock:
    """The time of server, engine and devices; only a test moves it."""

    now: int = field(default_factory=now_ms)

    def __call__(self) -> int:
        return self.now


@dataclass
class Line:
    """Six devices that run 1.0.0; 1.1.0 may be rolled out."""

    server: ServerUnderTest
    engine: RolloutEngine
    clock: Clock
    devices: list[SimDevice]
    releases: dict[str, ReleaseRef]

    @property
    def viewer(self) -> httpx2.Client:
        return self.server.client(Role.VIEWER)

    def settle(self) -> None:
        """Let every device follow, and the engine look once."""
        for device in self.devices:
            device.follow()
        self.engine.tick()

    def versions(self) -> list[str]:
        """What runs, by device."""
        found = [device.slots["digits"].release for device in self.devices]
        return [one.version if one else "" for one in found]

    def serve(self, version: str, *, hits: int, labelled: int = 400) -> None:
        """Let the devices that run a version answer so many labelled requests."""
        for device in self.devices:
            running = device.slots["digits"].release
            if running is not None and running.version == version:
                device.serve("digits", hits=hits, labelled=labelled)

    def start(self, version: str = "1.1.0", **wish: Any) -> str:
        """Start a rollout; return its id."""
        asked = {"waves": ["canary", "50%", "all"], "gate": GATE, "start": True} | wish
        return str(operate(self.server, "rollouts", **target(version, **asked))["id"])

    def look(self, rollout: str) -> dict[str, Any]:
        """Return a rollout as the API shows it."""
        return dict(self.viewer.get(f"/api/v1/rollouts/{rollout}").json())

    def move(self, rollout: str, event: str) -> httpx2.Response:
        """Pause, resume or undo as an operator."""
        address = f"/api/v1/rollouts/{rollout}/moves"
        return self.server.client(Role.OPERATOR).post(address, json={"event": event})

    def steps(self) -> list[Step]:
        """Return the steps of the deployment in force, newest first."""
        group = self.viewer.get("/api/v1/groups").json()["items"][0]["id"]
        with self.server.database.read() as session:
            issued = documents.current(session, deployment_topic(group))
        assert issued is not None
        assert isinstance(issued.document, Deployment)
        return issued.document.slots["digits"].steps

    def documents(self) -> int:
        """Return how many documents the director has signed so far."""
        with self.server.database.read() as session:
            return session.exec(select(func.count()).select_from(DirectorDocument)).one()


@pytest.fixture
def line(server: ServerUnderTest) -> Line:
    clock = Clock()
    releases = publish_releases(server, "1.0.0", "1.1.0", "1.2.0")
    devices = make_line(server, 6, clock=clock)
    line = Line(server, make_engine(server, clock=clock), clock, devices, releases)
    operate(server, "deployments", **target("1.0.0"))
    line.settle()
    line.serve("1.0.0", hits=380)
    return line


def test_a_deployment_reaches_everybody_and_is_done(line: Line) -> None:
    assert line.versions() == ["1.0.0"] * 6
    (rollout,) = line.viewer.get("/api/v1/rollouts").json()["items"]
    assert (rollout["state"], rollout["waves"]) == ("done", ["all"])
    assert rollout["reason"] == "6 of 6 devices heard of lately run it"


def test_waves_widen_while_telemetry_is_good_and_each_is_one_document(line: Line) -> None:
    rollout = line.start()
    counts = []
    before = line.documents()
    for _ in range(4):
        line.settle()
        counts.append(line.versions().count("1.1.0"))
        line.serve("1.1.0", hits=381)
        line.engine.tick()
    assert counts == [1, 3, 6, 6]
    shown = line.look(rollout)
    assert shown["state"] == "done"
    # between waves there is a gate; after the last one there is nobody left to spare
    assert [wave["outcome"] for wave in shown["progress"][:2]] == ["pass", "pass"]
    assert [wave["admitted"] for wave in shown["progress"]] == [1, 3, 6]
    # two further waves and the finish, however many devices there are
    assert line.documents() - before == 3


def test_a_wave_waits_for_its_evidence_and_names_what_is_missing(line: Line) -> None:
    rollout = line.start()
    line.settle()
    line.serve("1.1.0", hits=95, labelled=100)
    line.engine.tick()
    shown = line.look(rollout)
    assert (shown["state"], shown["wave"]) == ("running", 0)
    assert shown["progress"][0]["reason"] == "0 of 1 devices have 200 labels"


def test_a_worse_model_halts_and_is_undone_with_the_numbers(line: Line) -> None:
    rollout = line.start()
    line.settle()
    line.serve("1.1.0", hits=280)
    line.engine.tick()
    shown = line.look(rollout)
    assert shown["state"] == "undone"
    assert "accuracy 0.700 against 0.950" in shown["reason"]
    assert shown["progress"][0]["outcome"] == "breach"
    assert [step.release.version for step in line.steps()] == ["1.0.0"]
    line.settle()
    assert line.versions() == ["1.0.0"] * 6


def test_a_gate_without_undo_halts_and_lets_a_person_decide(line: Line) -> None:
    rollout = line.start(gate=GATE | {"undo": False})
    line.settle()
    line.serve("1.1.0", hits=280)
    line.engine.tick()
    assert line.look(rollout)["state"] == "halted"
    assert isinstance(line.steps()[0].begin, Paused)
    line.engine.tick()
    assert line.look(rollout)["state"] == "halted"
    assert line.move(rollout, "undo").json()["state"] == "undone"


def test_a_device_on_which_it_fails_halts_the_rollout(line: Line) -> None:
    line.devices[0].breaks.add(line.releases["1.1.0"].id)
    rollout = line.start(waves=["device:cam-0", "all"])
    line.settle()
    shown = line.look(rollout)
    assert shown["state"] == "undone"
    assert "1 devices failed to run it" in shown["reason"]


def test_silence_pauses_at_the_deadline_and_a_person_resumes(line: Line) -> None:
    rollout = line.start()
    line.settle()
    line.clock.now += 11 * MINUTE_MS
    line.settle()
    shown = line.look(rollout)
    assert shown["state"] == "paused"
    assert shown["reason"].startswith("not enough evidence")
    assert shown["progress"][0]["outcome"] == "not-enough-evidence"
    line.serve("1.1.0", hits=382)
    assert line.move(rollout, "resume").json()["state"] == "running"
    line.engine.tick()
    assert line.look(rollout)["wave"] == 1


def test_a_paused_step_stays_where_it_began_and_nobody_else_begins(line: Line) -> None:
    rollout = line.start(waves=["50%", "all"])
    line.devices[0].follow()
    began = line.versions().count("1.1.0")
    assert line.move(rollout, "pause").json()["state"] == "paused"
    line.settle()
    assert line.versions().count("1.1.0") == began
    assert line.move(rollout, "resume").json()["state"] == "running"
    line.settle()
    assert line.versions().count("1.1.0") == 3


def test_an_undo_gives_back_what_would_have_been(line: Line) -> None:
    before = line.steps()
    rollout = line.start()
    line.settle()
    assert "1.1.0" in line.versions()
    assert line.move(rollout, "undo").json()["state"] == "undone"
    assert line.steps() == before
    line.settle()
    assert line.versions() == ["1.0.0"] * 6


def test_the_only_step_cannot_be_undone(line: Line) -> None:
    (rollout,) = line.viewer.get("/api/v1/rollouts").json()["items"]
    answer = line.move(rollout["id"], "undo")
    assert answer.status_code == 409
    assert "roll back" in answer.json()["hint"].lower()


def test_a_rollback_is_one_document_with_one_step_and_ends_what_goes_on(
    line: Line,
) -> None:
    going_on = line.start()
    line.settle()
    before = line.documents()
    done = operate(line.server, "rollbacks", **target("1.0.0"))
    assert (done["devices"], done["stay"]) == (6, [])
    assert line.documents() - before == 1
    (step,) = line.steps()
    assert (step.release.version, step.admit.to) == ("1.0.0", "all")
    assert line.look(going_on)["state"] == "undone"
    line.settle()
    assert line.versions() == ["1.0.0"] * 6
    assert line.look(done["rollout"]["id"])["state"] == "done"


def test_a_second_rollout_of_the_slot_is_refused(line: Line) -> None:
    first = line.start()
    client = line.server.client(Role.OPERATOR)
    answer = client.post("/api/v1/rollouts", json=target("1.2.0", start=True))
    assert answer.status_code == 409
    assert answer.json()["rollout"] == first
    assert "modelfleet rollout undo" in answer.json()["hint"]


def test_a_rollout_without_a_variant_for_a_member_is_refused_and_names_it(
    line: Line,
) -> None:
    old = ARM64.__class__(arch="aarch64", opset=11)
    SimDevice.enrol(line.server, "old-1", labels={"line": "a"}, facts=old)
    client = line.server.client(Role.OPERATOR)
    answer = client.post("/api/v1/rollouts", json=target("1.1.0"))
    assert answer.status_code == 422
    assert answer.json()["devices"] == ["old-1"]
    assert line.start(skip_missing=True)


def test_two_engines_never_tick_the_same_rollout(line: Line) -> None:
    rollout = line.start()
    line.settle()
    line.serve("1.1.0", hits=381)
    other = make_engine(line.server, clock=line.clock)
    other.tick()
    assert line.look(rollout)["wave"] == 0
    line.clock.now += MINUTE_MS  # the lease ends when its holder is gone
    other.tick()
    assert line.look(rollout)["wave"] == 1


def test_a_rollout_whose_group_is_deleted_ends_and_is_still_told_of(line: Line) -> None:
    rollout = line.start()
    client = line.server.client(Role.OPERATOR)
    assert client.delete("/api/v1/groups/line", params={"yes": "true"}).is_success
    operate(line.server, "groups", name="line", selector="line=a")  # not the same group
    line.engine.tick()
    shown = line.look(rollout)
    assert (shown["state"], shown["reason"]) == ("undone", "its group was deleted")


def test_every_move_is_in_the_audit_log_with_who_did_it(line: Line) -> None:
    rollout = line.start()
    line.move(rollout, "pause")
    line.move(rollout, "undo")
    log = line.server.client(Role.ADMIN).get("/api/v1/audit", params={"limit": 500})
    moves = [
        (one["actor"], one["action"])
        for one in log.json()["items"]
        if one["detail"].get("rollout") == rollout
    ]
    assert set(moves) == {
        ("user:operator", f"rollout.{what}")
        for what in ("created", "started", "pause", "undo")
    }


def test_server_and_device_give_the_same_answer(line: Line) -> None:
    line.start(waves=["device:cam-0", "all"])
    for device in line.devices:
        wanted = device.follow()["digits"]
        (answer,) = line.viewer.get(f"/api/v1/devices/{device.id}/why").json()["slots"]
        assert answer["agree"]
        assert (answer["action"], answer["reason"], answer["detail"]) == (
            wanted.action,
            wanted.reason,
            wanted.detail,
        )
        assert (answer["version"], answer["step"]) == (
            wanted.release.version if wanted.release else None,
            wanted.step,
        )
        passed = [(one["step"], one["reason"]) for one in answer["passed"]]
        assert passed == [(one.step, one.reason) for one in wanted.passed]
