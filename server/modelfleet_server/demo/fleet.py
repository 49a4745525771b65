"""The six devices: what they say they are, and how they are started."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelfleet_server.demo.client import Client
from modelfleet_server.demo.stage import AGENT, Child, Stage
from modelfleet_server.demo.waiting import wait_for

SLOT = "digits"
SITE = "plant"
AT_ONCE = 2
QUICK = (
    *("--report-interval-s", "2", "--verify-interval-s", "1"),
    *("--telemetry-interval-s", "1", "--disk-reserve-mb", "0"),
    *("--workers", "1", "--threads", "1"),
)
"""Somebody watches: reports every two seconds, not every minute."""

ARM_CPU = ["asimd", "asimddp", "asimdhp"]
ARM64: Mapping[str, object] = {
    "arch": "aarch64",
    "cpu": ARM_CPU,
    "soc": "Raspberry Pi 5 Model B Rev 1.0",
    "jetson": "",
    "memory_mb": 8192,
}
JETSON: Mapping[str, object] = {
    "arch": "aarch64",
    "cpu": ARM_CPU,
    "soc": "NVIDIA Jetson Orin Nano Developer Kit",
    "jetson": "R36.4",
    "memory_mb": 7620,
}


@dataclass(frozen=True, slots=True)
class Part:
    """One device to be.

    Attributes:
        declared: Facts in place of the probed ones; None is this machine as it is.
    """

    name: str
    labels: Mapping[str, str]
    declared: Mapping[str, object] | None = None

    @property
    def kind(self) -> str:
        """What it is, for people."""
        return self.labels["board"]


def _parts(board: str, declared: Mapping[str, object] | None) -> list[Part]:
    halls = ("north", "south")
    return [
        Part(f"{board}-{hall}", {"site": SITE, "hall": hall, "board": board}, declared)
        for hall in halls
    ]


CAST = (*_parts("local", None), *_parts("arm64", ARM64), *_parts("jetson", JETSON))


@dataclass
class Device:
    """An enrolled device and its agent.

    Attributes:
        profile: As the server worked it out from its facts.
        port: Of its inference endpoint, 0 before it runs.
    """

    part: Part
    directory: Path
    agent: Child | None = None
    profile: str = ""
    port: int = 0

    @property
    def name(self) -> str:
        """Its id."""
        return self.part.name

    @property
    def declared(self) -> bool:
        """It only says that it is what it is: its latency is no evidence."""
        return self.part.declared is not None


@dataclass
class Fleet:
    """All devices."""

    devices: list[Device] = field(default_factory=list)

    @property
    def profiles(self) -> list[str]:
        """The profiles that a release needs a variant for."""
        return sorted({one.profile for one in self.devices})

    @property
    def endpoints(self) -> list[str]:
        """Names and ports, as the load takes them."""
        return [f"{one.name}={one.port}" for one in self.devices]


def enrol_all(stage: Stage, client: Client, parts: Sequence[Part] = CAST) -> Fleet:
    """Claim, enrol and start every device, and wait until each has reported.

    Raises:
        PromiseError: One does not come up.
    """
    fleet = Fleet([Device(part, stage.home / "devices" / part.name) for part in parts])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda device: _enrol(stage, client, device), fleet.devices))
    for device in fleet.devices:
        program = [*AGENT, "run", "--dir", str(device.directory), *QUICK]
        device.agent = stage.start(device.name, program)
    for device in fleet.devices:
        _meet(stage, client, device)
    return fleet


def _enrol(stage: Stage, client: Client, device: Device) -> None:
    wish = {"device": device.name, "labels": dict(device.part.labels)}
    claim = client.post("/devices/claims", wish)
    program = [*AGENT, "enrol", "--dir", str(device.directory), "--server", client.url]
    if device.part.declared is not None:
        facts = stage.home / f"{device.name}.facts.json"
        facts.write_text(json.dumps(device.part.declared), encoding="utf-8")
        program += ["--declare", str(facts)]
    stage.run(
        f"modelfleet-agent enrol ({device.name})",
        [*program, "--token", "-"],
        given=f"{claim['token']}\n",
    )


def _meet(stage: Stage, client: Client, device: Device) -> None:
    """Wait until a device has reported and its endpoint is open."""
    endpoint = device.directory / "endpoint.json"
    log = device.agent.log if device.agent else None

    def look() -> dict[str, Any] | None:
        stage.check()
        seen = client.get(f"/devices/{device.name}")
        return seen if seen["reported_ms"] and endpoint.exists() else None

    seen = wait_for(look, f"the first report of {device.name}", within_s=90, log=log)
    device.profile = seen["profile"]
    device.port = json.loads(endpoint.read_text(encoding="utf-8"))["http_port"]
