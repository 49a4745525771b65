"""A real agent on a device with the label evaluates a candidate of a real server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sqlmodel import select
from tests.server.builds.desk import Desk
from tests.server.reference.test_evidence import PROFILE
from tests.support.server import ServerUnderTest
from tests.support.waiting import eventually

from modelfleet_manifests.evaluation import REFERENCE
from modelfleet_server.builds.domain import State
from modelfleet_server.builds.tables import Build
from modelfleet_server.kit.access import Role

AGENT = [sys.executable, "-m", "modelfleet_agent"]
INTERVALS = ("--report-interval-s", "1", "--reference-interval-s", "0.5")


@pytest.mark.slow
def test_a_reference_device_fetches_runs_and_signs(tmp_path: Path) -> None:
    home, directory = tmp_path / "fleet", tmp_path / "agent"
    (home / "profiles").mkdir(parents=True)
    (home / "profiles/generic.yaml").write_text(PROFILE.format(count=1))
    server = ServerUnderTest.start(home)
    try:
        enrol(server, directory, tmp_path / "facts.json")
        log = (tmp_path / "agent.log").open("wb")
        run = [*AGENT, "run", "--dir", str(directory), *INTERVALS]
        with log, subprocess.Popen(run, stderr=log) as agent:
            try:
                Desk(server.database, server.blobs, tmp_path).publish("generic")
                eventually(lambda: build(server).state is State.DONE, "it is shown", 120)
            finally:
                agent.terminate()
        (one,) = server.client(Role.VIEWER).get("/api/v1/evaluations").json()["items"]
    finally:
        server.stop()
    assert (one["state"], one["device"]) == ("passed", "bench-1")
    assert one["accuracy"] == one["master_accuracy"]
    assert one["p99_us"] >= one["p50_us"] > 0
    assert one["memory_kb"] > 10_000
    assert one["provider"] == "CPUExecutionProvider"
    assert "MF_EVALUATES demo/digits" in (tmp_path / "agent.log").read_text()
    assert not (directory / "reference").exists()


def enrol(server: ServerUnderTest, directory: Path, declared: Path) -> None:
    wish = {"device": "bench-1", "labels": REFERENCE}
    claim = server.client(Role.OPERATOR).post("/api/v1/devices/claims", json=wish)
    declared.write_text(json.dumps({"arch": "riscv64", "cpu": []}))  # generic
    where = ("enrol", "--dir", str(directory), "--server", server.url)
    token = ("--token", claim.json()["token"], "--declare", str(declared))
    subprocess.run([*AGENT, *where, *token], check=True, capture_output=True)


def build(server: ServerUnderTest) -> Build:
    with server.database.read() as session:
        return session.exec(select(Build)).one()
