"""A real agent in a process of its own, with a real broker and a fleet's HTTP server."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.agent import models
from tests.support import kill
from tests.support.kill import KillPoint, Order
from tests.support.mqtt import Peer
from tests.support.solo import SoloFleet, make_release, make_step, make_variant, random_id
from tests.support.solo_http import FleetServer
from tests.support.waiting import eventually

from modelfleet_agent import enrol as enrolling
from modelfleet_agent.clock import now_ms
from modelfleet_agent.enrol import Enrolment
from modelfleet_manifests import topics
from modelfleet_manifests.deployment import Step
from modelfleet_manifests.release import (
    Demands,
    Release,
    ReleaseRef,
    Schema,
    Tensor,
    release_ref,
)
from modelfleet_manifests.report import Report, Running, SlotReport, open_report

SLOT = "linear"
MODEL = "demo/linear"
SCHEMA = Schema(
    inputs=[Tensor(name="x", datatype="FP32", shape=[-1, 4])],
    outputs=[Tensor(name="y", datatype="FP32", shape=[-1, 3])],
)
QUICK = ("--verify-interval-s", "1", "--report-interval-s", "2", "--disk-reserve-mb", "0")


class Rig:
    """One device. `start` and `kill` its agent at will; it listens to what it reports."""

    def __init__(
        self, directory: Path, server: FleetServer, broker: tuple[str, int]
    ) -> None:
        self.dir = directory
        self.server = server
        self.fleet: SoloFleet = server.fleet
        self.group = random_id()
        self.device = f"dev-{random_id()[:8]}"
        self.process: subprocess.Popen[bytes] | None = None
        self.program = [sys.executable, "-m", "modelfleet_agent"]
        self._started = 0
        server.mqtt = broker
        self.peer = Peer(broker)  # type: ignore[arg-type]
        self.peer.subscribe(topics.device_topic(self.device, "report"))
        self.peer.subscribe(topics.device_topic(self.device, "telemetry"))

    # the agent

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `modelfleet-agent` to its end."""
        name, *rest = arguments
        return subprocess.run(
            [*self.program, name, "--dir", str(self.dir), *rest],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
            env=_environment(),
        )

    def enrol(self, *arguments: str) -> Enrolment:
        """Enrol by the command, each time with another claim token."""
        claim = f"claim-{random_id()}"
        self.server.claims[claim] = self.device
        done = self.command(
            "enrol", "--server", self.server.url, "--token", claim, *arguments
        )
        assert done.returncode == 0, done.stderr
        return enrolling.load_enrolment(self.dir)

    @property
    def me(self) -> Enrolment:
        return enrolling.load_enrolment(self.dir)

    def start(self, *arguments: str, dies_at: KillPoint | None = None) -> None:
        """Start the agent."""
        if dies_at:
            self.order(Order("kill", dies_at))
        self._started = now_ms()
        program = self.program
        if self.control.exists():
            program = kill.command(self.control)
        log = (self.dir.parent / f"{self.device}.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [*program, "run", "--dir", str(self.dir), *QUICK, *arguments],
                stderr=log,
                env=_environment(),
            )

    @property
    def control(self) -> Path:
        """Orders of the kill harness; where there are some, the agent runs in it."""
        return self.dir.parent / f"{self.device}.order"

    def order(self, order: Order | None) -> None:
        """Give the harness an order: at once, or for the next start."""
        kill.give(self.control, order)

    def acknowledge(self) -> None:
        """Forget what was heard, and let the device forget it, too."""
        reports = self.all_reports
        if reports:
            me = self.me
            ack = {"incarnation": me.incarnation, "seq": reports[-1].seq}
            topic = topics.device_topic(me.device, "ack")
            self.peer.publish(topic, json.dumps(ack).encode())
        self.peer.forget()

    def kill(self) -> None:
        """End the agent with -9."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        self.ended()

    def stop(self) -> int:
        """End the agent with SIGTERM; return its exit code."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for its end; return its exit code."""
        assert self.process
        return self.process.wait(60)

    def close(self) -> None:
        if self.process:
            self.kill()
        self.peer.leave()

    # the fleet

    def release(
        self,
        version: str,
        data: bytes,
        *,
        golden: bytes | None = None,
        trial_ms: int = 100,
        rollback_to: Sequence[str] = ("1.0.0",),
    ) -> Release:
        """List a release; it counts after `fleet.publish()`."""
        gold = golden or models.golden(data)
        variant = make_variant(self.fleet.files, data, golden=gold)
        made = make_release(
            self.fleet.files,
            version,
            model=MODEL,
            variants=[variant],
            schema=SCHEMA,
            demands=Demands(trial_ms=trial_ms),
            rollback_to=[one for one in rollback_to if one != version],
        )
        self.fleet.add_release(made, slot=SLOT)
        return made

    def assign(self, **changes: Any) -> None:
        """Let the group govern the slot."""
        me = self.me
        envelope = self.fleet.assignment(
            me.device, me.enrolment, {SLOT: self.group}, **changes
        )
        topic = topics.device_topic(me.device, "assignment")
        self.peer.publish(topic, envelope, retain=True)

    def deploy(self, *releases: Release | ReleaseRef | Step) -> list[Step]:
        """Publish the group's deployment with these steps, newest first."""
        steps = [
            one
            if isinstance(one, Step)
            else make_step(release_ref(one) if isinstance(one, Release) else one)
            for one in releases
        ]
        envelope = self.fleet.deployment(self.group, {SLOT: steps})
        self.peer.publish(topics.deployment_topic(self.group), envelope, retain=True)
        return steps

    # what it says

    @property
    def all_reports(self) -> list[Report]:
        """Every report that arrived, verified with the device's key, in its order."""
        key = enrolling.load_report_key(self.dir).public
        topic = topics.device_topic(self.device, "report")
        found = [open_report(p, self.device, [key]) for p in self.peer.payloads(topic)]
        # nobody acknowledges: after a reconnect all of them come again
        return [one for _, one in sorted({one.seq: one for one in found}.items())]

    @property
    def reports(self) -> list[Report]:
        """Reports of the run of the agent that `start` began last."""
        return [one for one in self.all_reports if one.at >= self._started]

    def reported(
        self,
        fits: Callable[[SlotReport], object],
        what: str,
        *,
        since: int = 0,
        timeout_s: float = 60,
    ) -> SlotReport:
        """Wait for a report of this run whose slot fits; `since` passes over some."""

        def look() -> SlotReport | None:
            self.check_alive()
            slots = [one.slots.get(SLOT) for one in self.reports[since:]]
            return next((one for one in slots if one and fits(one)), None)

        try:
            found = eventually(look, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None
        assert found is not None
        return found

    def serves(self, release: Release, *, since: int = 0) -> SlotReport:
        """Wait until the device reports that it runs `release`, in rest and intact."""
        return self.runs(release.variants[0].digest, since=since)

    def runs(self, digest: str, *, since: int = 0) -> SlotReport:
        """Wait until the device reports that it runs this variant, in rest and intact."""

        def fits(slot: SlotReport) -> bool:
            run = slot.running
            if not isinstance(run, Running) or slot.phase != "idle":
                return False
            return run.digest == digest and run.intact

        return self.reported(fits, f"{digest} serves", since=since)

    def check_alive(self) -> None:
        if self.process and self.process.poll() not in (None, -signal.SIGKILL):
            raise AssertionError(f"the agent ended: {self.process.returncode}")

    def story(self) -> str:
        """Return what is known, for a failed test."""
        log = (self.dir.parent / f"{self.device}.log").read_text()
        slots = [(one.seq, one.slots.get(SLOT), one.errors) for one in self.all_reports]
        return "\n".join(map(str, slots)) + "\n" + log[-4000:]

    def answer(self, x: Sequence[float] = (1, 2, 3, 4)) -> tuple[int, Any]:
        """Ask the device's endpoint."""
        port = json.loads((self.dir / "endpoint.json").read_text())["http_port"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": list(x)}
        body = json.dumps({"inputs": [tensor]})
        with contextlib.closing(connection):  # also where the agent is killed meanwhile
            connection.request("POST", f"/v2/models/{SLOT}/infer", body)
            response = connection.getresponse()
            return response.status, json.loads(response.read())


def _environment() -> dict[str, str]:
    roots = [str(Path(__file__).parents[2] / one) for one in ("", "agent", "manifests")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(roots)}
