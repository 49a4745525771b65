"""What the steps of the main job share."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from modelfleet_server.demo.client import Client, Json
from modelfleet_server.demo.fleet import SLOT, Fleet
from modelfleet_server.demo.load.tally import Traffic, read_traffic
from modelfleet_server.demo.measured import Measured
from modelfleet_server.demo.stage import Stage
from modelfleet_server.demo.telling import Begun, Said, Say, Typed, seconds
from modelfleet_server.demo.waiting import keep_promise

MODEL = "demo/digits"
GROUP = "plant"
USER = "admin"
RATE = 20.0
"""Requests a second to each device."""


@dataclass
class Play:
    """The main job under way.

    Attributes:
        client: Of the server; set by the first step.
        fleet: The devices; set by the second.
    """

    stage: Stage
    say: Say
    password: str
    measured: Measured = field(default_factory=Measured)
    fleet: Fleet = field(default_factory=Fleet)
    _client: Client | None = None

    @property
    def client(self) -> Client:
        """The server's API."""
        if self._client is None:
            raise LookupError("the server was not started")
        return self._client

    def connect(self, url: str) -> None:
        """Use the server at `url` from now on."""
        self._client = Client(url)

    @property
    def approver_key(self) -> Path:
        """Where the operator keeps the approver's keys: not beside the server's."""
        return self.stage.home / "operator" / "approver.key"

    @property
    def passphrase(self) -> Path:
        """The file with what opens them."""
        return self.stage.home / "operator" / "passphrase"

    @contextmanager
    def step(self, number: int, title: str) -> Iterator[None]:
        """Announce a step and take its time."""
        self.say(Begun(number, title))
        began = time.monotonic()
        yield
        self.stage.check()
        took = time.monotonic() - began
        self.measured.steps_s[str(number)] = round(took, 2)

    def did(self, text: str) -> None:
        """Say what was done or seen."""
        self.say(Said(text))

    def by_hand(self, text: str) -> None:
        """Show the command that does it by hand."""
        self.say(Typed(text))

    def devices(self) -> list[Json]:
        """Return all devices as the server knows them."""
        found: list[Json] = self.client.get("/devices", group=GROUP, limit=100)["items"]
        return found

    # traffic

    def open_traffic(self) -> None:
        """Start asking every device for answers."""
        program = [
            *(sys.executable, "-m", "modelfleet_server.demo.load"),
            *("--slot", SLOT, "--rate", f"{RATE:g}", "--tally", str(self._tally)),
            *self.fleet.endpoints,
        ]
        self.stage.start("traffic", program)

    @property
    def traffic(self) -> Traffic:
        """What the traffic has seen so far."""
        return read_traffic(self._tally)

    def check_traffic(self) -> Traffic:
        """Return the traffic if no request failed.

        Raises:
            PromiseError: One did.
        """
        traffic = self.traffic
        keep_promise(
            not traffic.failed,
            f"{traffic.failed} of {traffic.requests} requests failed",
            "The first:\n" + "\n".join(traffic.failures),
        )
        return traffic

    @property
    def _tally(self) -> Path:
        return self.stage.home / "traffic.json"


def slot_of(device: Json) -> Json:
    """Return what a device reported of the slot of the demonstration, {} for nothing."""
    return next((one for one in device["slots"] if one["slot"] == SLOT), {})


def since(began: float) -> str:
    """Return the time that has passed since a `time.monotonic()`, in words."""
    return seconds(time.monotonic() - began)
