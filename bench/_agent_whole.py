"""The whole agent: an update by delta, and what the supervisor costs while it idles."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.agent import rig as rigs
from tests.agent.rig import Rig
from tests.support.brokers import make_broker
from tests.support.solo import SoloFleet
from tests.support.solo_http import serve

from bench import _agent_models as models
from bench._agent_runtime import bare_load_s
from modelfleet_agent.clock import now_ms
from modelfleet_agent.link.fetch import DeltaOffer, Fetcher
from modelfleet_agent.runtime import patch as patching
from modelfleet_agent.store import Store
from modelfleet_manifests import delta
from modelfleet_manifests.release import Schema, Tensor

SCHEMA = Schema(
    inputs=[Tensor(name="x", datatype="FP32", shape=[1, 1024])],
    outputs=[Tensor(name="y", datatype="FP32", shape=[1, 1024])],
)
IMPORTS = (
    "import time; began = time.process_time(); "
    "import modelfleet_agent.cli, modelfleet_agent.supervisor.wiring; "
    "print((time.process_time() - began) * 1000)"
)


def whole(idle_s: float) -> dict[str, Any]:
    """Update by delta, then idle; return the figures."""
    rigs.SCHEMA = SCHEMA
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        broker = make_broker("embedded", folder / "broker")
        address = broker.start()
        try:
            with serve(SoloFleet(now=now_ms())) as server:
                rig = Rig(folder / "agent", server, address)
                rig.enrol()
                try:
                    return {**update(rig), **idle(rig, idle_s)}
                finally:
                    rig.close()
        finally:
            broker.stop()


def update(rig: Rig) -> dict[str, Any]:
    first = models.layers(22, 1024, rows=1, seed=1)
    second = models.layers(22, 1024, rows=1, seed=1, nudge=1e-3)
    patch = delta.encode(first, second)
    old = rig.release("1.0.0", first, golden=models.golden(first), trial_ms=0)
    rig.fleet.publish()
    rig.assign()
    rig.deploy(old)
    rig.start("--verify-interval-s", "60", "--report-interval-s", "60")
    rig.serves(old)
    new = rig.release("1.1.0", second, golden=models.golden(second), trial_ms=0)
    digests = [one.variants[0].files[0].digest for one in (new, old)]
    blob = rig.fleet.files.add_delta(digests[0], digests[1], patch)
    rig.fleet.publish()
    began = time.monotonic()
    rig.deploy(new, old)
    row = rig.serves(new)
    took = time.monotonic() - began
    assert row.method == "delta"
    parts = sum_of_parts(rig, digests, DeltaOffer(blob, len(patch), "td1", 1 << 20), second)
    return {
        "update_ratio": round(took / parts, 3),
        "update_s": round(took, 3),
        "update_parts_s": round(parts, 3),
        "delta_bytes": len(patch),
    }


def sum_of_parts(rig: Rig, digests: list[str], offer: DeltaOffer, data: bytes) -> float:
    """Transfer, apply in a limited child, bare load: each alone, medians of three."""
    me, took = rig.me, []
    base = rig.dir / "store" / digests[1]
    for number in range(3):
        store = Store(rig.dir.parent / f"parts{number}")
        began = time.monotonic()
        fetcher = Fetcher(me.server, me.token, store)
        got = fetcher.fetch_patch(offer)
        fetcher.close()
        out = store.partials / "out"
        patching.run(base, got.path, out, digest=digests[0], length=len(data))
        spent = time.monotonic() - began
        placed = models.release(store, data, "1.1.0")
        took.append(spent + bare_load_s(placed))
    return median(took)


def idle(rig: Rig, seconds: float) -> dict[str, Any]:
    assert rig.process
    pid, ticks = rig.process.pid, os.sysconf("SC_CLK_TCK")
    before = cpu_ticks(pid)
    threading.Event().wait(seconds)
    busy = (cpu_ticks(pid) - before) / ticks
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    imports = [
        float(
            subprocess.run(
                [sys.executable, "-c", IMPORTS], capture_output=True, check=True, text=True
            ).stdout
        )
        for _ in range(5)
    ]
    return {
        "supervisor_mib": round(pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20), 1),
        "supervisor_idle_pct": round(100 * busy / seconds, 3),
        "supervisor_import_ms": round(median(imports), 1),
    }


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
