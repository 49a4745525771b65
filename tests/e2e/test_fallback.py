"""Real server, broker and agents: what follows a bad delta, by each device's own word."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.agent import models
from tests.agent.rig import MODEL, QUICK, SCHEMA, SLOT
from tests.support.fleet import FleetUnderTest, make_variant
from tests.support.server import PASSPHRASE, ServerUnderTest
from tests.support.waiting import eventually

from modelfleet_manifests import delta
from modelfleet_manifests.digests import EMPTY
from modelfleet_manifests.release import Demands, File, Golden
from modelfleet_server.blobs.service import keep
from modelfleet_server.catalog import service as catalog
from modelfleet_server.catalog.tables import DeltaOffer
from modelfleet_server.catalog.versions import NewVersion
from modelfleet_server.deltas import service as deltas
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.trust.approver import open_approver
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.proposals import Publisher
from modelfleet_server.trust.tables import Proposal

ACTOR = "user:ada"
LINEAGE = {
    "code": "a" * 64,
    "data": "b" * 64,
    "environment": "c" * 64,
    "hyperparameters": {},
}
METERED = 'metered = ["*"]'
WORDS = {
    "never": 'fallback = "never"',
    "wifi-paid": f'fallback = "wifi"\n{METERED}',
    "wifi-free": 'fallback = "wifi"\nmetered = []',
    "always": f'fallback = "always"\n{METERED}',
}
STAY, FOLLOW = {"never", "wifi-paid"}, {"wifi-free", "always"}


@dataclass
class Plant:
    """A server with one agent per word of an operator."""

    server: ServerUnderTest
    folder: Path
    agents: list[subprocess.Popen[bytes]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def operator(self) -> httpx2.Client:
        return self.server.client(Role.OPERATOR)

    @property
    def publisher(self) -> FleetUnderTest:
        home = self.server.server.settings.home
        director = self.server.parts.get(Director)
        publisher = self.server.parts.get(Publisher)
        key = home / "approver.key"
        return FleetUnderTest(
            director.fleet, open_approver(key, PASSPHRASE), director, publisher, key
        )

    def enrol(self, name: str) -> None:
        """Enrol a device and start its agent with its settings file."""
        wish = {"device": f"dev-{name}", "labels": {"site": "plant"}}
        answer = self.operator.post("/api/v1/devices/claims", json=wish)
        folder = self.folder / name
        done = self.agent("enrol", folder, "--server", self.server.url, "--token", "-")
        done.communicate(answer.json()["token"].encode(), timeout=60)
        assert done.returncode == 0
        (folder / "agent.toml").write_text(f"[link]\n{WORDS[name]}\n")
        self.agents.append(self.agent("run", folder, *QUICK))

    def agent(self, name: str, folder: Path, *more: str) -> subprocess.Popen[bytes]:
        program = [sys.executable, "-m", "modelfleet_agent", name, "--dir", str(folder)]
        with (self.folder / f"{folder.name}.log").open("ab") as log:
            return subprocess.Popen(
                [*program, *more], stdin=subprocess.PIPE, stderr=log, env=dict(os.environ)
            )

    def release(self, version: str, data: bytes) -> None:
        """Let a version be built, packed and signed."""
        blobs, gold = self.server.blobs, models.golden(data)
        master, golden = blobs.put(data), blobs.put(gold)
        new = NewVersion(
            model=MODEL, version=version, master=master.digest, evaluation=golden.digest,
            lineage=LINEAGE, schema=SCHEMA, profiles=["generic"],
            demands=Demands(trial_ms=100),
        )  # fmt: skip
        variant = msgspec.structs.replace(
            make_variant("generic", version),
            files=[File(name="model.onnx", digest=master.digest, length=master.length)],
            golden=Golden(
                file=File(name="golden.npz", digest=golden.digest, length=golden.length),
                atol="0.001",
                rtol="0.001",
            ),
        )
        packed = blobs.put(delta.encode(b"", data))
        now = now_ms()
        with self.server.database.write() as session:
            row = catalog.create_version(session, blobs, new, actor=ACTOR, now_ms=now)
            keep(session, golden, at_ms=now)
            offer = catalog.Patch(packed, "novel", 1 << 20)
            catalog.offer_delta(session, master.digest, EMPTY, offer, now_ms=now)
            catalog.add_variant(session, row.id, variant, at_ms=now)
            catalog.finish_building(session, row.id, now_ms=now)
            proposal = session.get(Proposal, row.proposal)
            assert proposal
            self.publisher.approve(session, proposal, now)
        self.files[version] = master.digest

    def deploy(self, version: str) -> dict[str, Any]:
        eventually(self.is_settled, "the rollout before is done", 60)
        wish = {"group": "plant", "slot": SLOT, "model": MODEL, "version": version}
        answer = self.operator.post("/api/v1/deployments", json=wish)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def is_settled(self) -> bool:
        found = self.operator.get("/api/v1/rollouts").json()["items"]
        return all(one["state"] == "done" for one in found)

    def slot(self, name: str) -> dict[str, Any]:
        seen = self.operator.get(f"/api/v1/devices/dev-{name}").json()
        return next((one for one in seen["slots"] if one["slot"] == SLOT), {})

    def runs(self, name: str, version: str) -> bool:
        slot = self.slot(name)
        return bool(slot) and (slot["version"], slot["phase"]) == (version, "idle")

    def why(self, name: str) -> dict[str, Any]:
        answer = self.operator.get(f"/api/v1/devices/dev-{name}/why").json()
        found: dict[str, Any] = answer["slots"][0]
        return found

    def verdict(self, name: str) -> dict[str, Any]:
        told = self.operator.get("/api/v1/compliance", params={"group": "plant"}).json()
        return next(one for one in told["items"] if one["device"] == f"dev-{name}")

    def offer(self, blob: bytes) -> None:
        """Let this be the delta between the two versions."""
        put = self.server.blobs.put(blob)
        with self.server.database.write() as session:
            keep(session, put, at_ms=now_ms())
            held = session.get(DeltaOffer, (self.files["1.1.0"], self.files["1.0.0"]))
            assert held
            held.blob, held.length = put.digest, put.length
            session.add(held)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    plant = Plant(ServerUnderTest.start(tmp_path / "server"), tmp_path)
    for name in WORDS:
        plant.enrol(name)
    wish = {"name": "plant", "selector": "site=plant"}
    assert plant.operator.post("/api/v1/groups", json=wish).status_code == 201
    yield plant
    for agent in plant.agents:
        if agent.stdin:
            agent.stdin.close()
        agent.terminate()
    for agent in plant.agents:
        agent.wait(60)
    plant.server.stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_device_does_after_a_bad_delta_what_its_operator_said(plant: Plant) -> None:
    plant.release("1.0.0", models.wide(0))
    plant.deploy("1.0.0")
    for name in WORDS:
        eventually(lambda name=name: plant.runs(name, "1.0.0"), f"1.0.0 on {name}", 120)  # type: ignore[misc]
        assert plant.slot(name)["method"] == "packed"

    plant.release("1.1.0", models.wide(1))  # signing it asks for the delta
    path = f"/api/v1/deltas/plans/{MODEL}/1.1.0"
    eventually(lambda: plant.operator.get(path).json()["state"] == "done", "the delta", 120)
    listed = plant.operator.get("/api/v1/deltas").json()["items"]
    assert [(one["state"], one["devices"]) for one in listed] == [("made", len(WORDS))]
    with plant.server.database.read() as session:
        held = catalog.find_delta(session, plant.files["1.1.0"], plant.files["1.0.0"])
        assert held
        good = plant.server.blobs.read(held.blob)
    plant.offer(b"no patch at all")
    plant.deploy("1.1.0")

    for name in FOLLOW:
        eventually(lambda name=name: plant.runs(name, "1.1.0"), f"1.1.0 on {name}", 120)  # type: ignore[misc]
        assert plant.slot(name)["method"] == "packed"
        assert "its delta is of no use" in plant.why(name)["device_detail"]
    for name in STAY:
        eventually(
            lambda name=name: plant.why(name)["device_reason"] == "full-forbidden",  # type: ignore[misc]
            f"{name} says why it stays",
            120,
        )
        assert plant.slot(name)["version"] == "1.0.0"
        assert "E_PATCH" in plant.why(name)["device_detail"]
        # it tries again now and then, and is updating while it does
        eventually(
            lambda name=name: plant.verdict(name)["state"] == "failed",  # type: ignore[misc]
            f"{name} has failed",
            120,
        )
        assert "whole file" in plant.verdict(name)["reason"]

    plant.offer(good)  # another delta is no whole file
    for name in STAY:
        eventually(lambda name=name: plant.runs(name, "1.1.0"), f"1.1.0 on {name}", 120)  # type: ignore[misc]
        assert plant.slot(name)["method"] == "delta"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_rollout_waits_until_its_deltas_are_made(plant: Plant) -> None:
    plant.release("1.0.0", models.wide(0))
    plant.deploy("1.0.0")
    for name in WORDS:
        eventually(lambda name=name: plant.runs(name, "1.0.0"), f"1.0.0 on {name}", 120)  # type: ignore[misc]
    plant.release("1.1.0", models.wide(1))
    made = plant.deploy("1.1.0")
    assert made["state"] in {"preparing", "running"}
    for name in WORDS:
        eventually(lambda name=name: plant.runs(name, "1.1.0"), f"1.1.0 on {name}", 120)  # type: ignore[misc]
        assert plant.slot(name)["method"] == "delta"
    with plant.server.database.read() as session:
        assert not deltas.is_pending(session, made["release"])
