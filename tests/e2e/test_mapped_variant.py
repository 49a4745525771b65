"""Weights beside the graph, from a profile to the device that maps and serves them."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.builds.models import save, wide, write_set
from tests.server.cli.conftest import commands_of
from tests.server.cli.test_variants import LINEAGE
from tests.support.commands import Commands
from tests.support.server import ServerUnderTest
from tests.support.waiting import eventually

from modelfleet_manifests.release import files_digest
from modelfleet_server.kit.access import Role

PROFILE = """\
name: generic
title: Any device, which maps all weights of 1 KiB and more
rank: 900
detect: {}
providers: [CPUExecutionProvider]
opset: 24
ir: 13
candidates:
  - name: mapped
    precision: fp32
    steps: [{step: opset, at_least: 17}, {step: external, at_least: 1024, total: 0}]
"""
AGENT = [sys.executable, "-m", "modelfleet_agent"]
QUICK = ("--verify-interval-s", "1", "--report-interval-s", "1", "--disk-reserve-mb", "0")
MODEL, SLOT, RELEASE = "demo/wide", "wide", "demo/wide@1.0.0"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerUnderTest]:
    home = tmp_path / "fleet"
    (home / "profiles").mkdir(parents=True)
    (home / "profiles/generic.yaml").write_text(PROFILE)
    server = ServerUnderTest.start(home)
    yield server
    server.stop()


def publish(admin: Commands, folder: Path) -> None:
    """Publish and approve by commands; the approver's machine builds the variant again."""
    save(wide(), folder / "wide.onnx")
    write_set(folder / "eval.npz")
    (folder / "wide.lineage.json").write_text(json.dumps(LINEAGE))
    done = admin.call(
        *("publish", folder / "wide.onnx", "--model", MODEL, "--version", "1.0.0"),
        *("--eval", folder / "eval.npz", "--profile", "generic", "--approve", "--yes"),
    )
    assert done.code == 0, done.err


def enrol(server: ServerUnderTest, directory: Path) -> None:
    operator = server.client(Role.OPERATOR)
    claim = operator.post("/api/v1/devices/claims", json={"device": "cam-1"})
    facts = directory.with_suffix(".json")
    facts.write_text(json.dumps({"arch": "riscv64", "cpu": []}))  # fits generic only
    where = ("enrol", "--dir", str(directory), "--server", server.url)
    token = ("--token", claim.json()["token"], "--declare", str(facts))
    subprocess.run([*AGENT, *where, *token], check=True, capture_output=True)
    wish = {"name": "line", "devices": ["cam-1"]}
    assert operator.post("/api/v1/groups", json=wish).status_code == 201
    order = {"group": "line", "slot": SLOT, "model": MODEL, "version": "1.0.0"}
    assert operator.post("/api/v1/deployments", json=order).status_code == 201


def ask(directory: Path, x: np.ndarray) -> list[float]:
    """Ask the device's endpoint, as an application does."""
    port = json.loads((directory / "endpoint.json").read_text())["http_port"]
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.tolist()}
    body = json.dumps({"inputs": [tensor]})
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", f"/v2/models/{SLOT}/infer", body)
        answer = connection.getresponse()
        found = json.loads(answer.read())
    assert answer.status == 200, found
    data: list[float] = found["outputs"][0]["data"]
    return data


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_device_fetches_tests_and_serves_a_variant_of_two_files(
    server: ServerUnderTest, tmp_path: Path
) -> None:
    directory = tmp_path / "cam-1"
    admin = commands_of(server, tmp_path / "admin", Role.ADMIN).acting(
        MODELFLEET_HOME=str(tmp_path / "fleet")
    )
    publish(admin, tmp_path)
    verified = admin.call("variant", "verify", RELEASE, "--json").document
    assert verified["variants"]["generic-mapped"]["found"] == "rebuilt"
    told = server.client(Role.VIEWER).get(f"/api/v1/releases/{MODEL}/1.0.0").json()
    (variant,) = told["variants"]
    assert [file["name"] for file in variant["files"]] == ["model.onnx", "weights.bin"]
    assert variant["vouched"] == "rebuilt"

    enrol(server, directory)
    log = (tmp_path / "agent.log").open("wb")
    run = [*AGENT, "run", "--dir", str(directory), *QUICK]
    with log, subprocess.Popen(run, stderr=log, env=dict(os.environ)) as agent:
        try:
            eventually(lambda: slot(server).get("phase") == "idle", "it is served", 120)
            x = np.random.default_rng(2).random((2, 4), np.float32)
            assert np.allclose(ask(directory, x), x[:, :3].ravel(), atol=1e-5)
            running = slot(server)
        finally:
            agent.terminate()
    digest = files_digest((file["name"], file["digest"]) for file in variant["files"])
    assert running["digest"] == variant["digest"] == digest
    assert running["version"] == "1.0.0"


def slot(server: ServerUnderTest) -> dict[str, Any]:
    seen = server.client(Role.VIEWER).get("/api/v1/devices/cam-1").json()
    found: dict[str, Any] = next((it for it in seen["slots"] if it["slot"] == SLOT), {})
    return found if found.get("version") else {}
