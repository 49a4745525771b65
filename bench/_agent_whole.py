"""The whole agent: an update by delta, and what the supervisor costs while it idles."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
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
from modelfleet_agent.journal import Pages, read_value
from modelfleet_agent.link.fetch import DeltaOffer, Fetcher
from modelfleet_agent.runtime import patch as patching
from modelfleet_agent.store import Store
from modelfleet_agent.update.engine import PAGE
from modelfleet_agent.update.phases import Phase
from modelfleet_agent.update.work import Entry
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
        compile_first(folder / "compiled")
        broker = make_broker("embedded", folder / "broker")
        address = broker.start()
        try:
            fleet = SoloFleet(now=now_ms())
            fleet.tells = now_ms  # models take a while to make: its clock must go on
            with serve(fleet) as server:
                rig = Rig(folder / "agent", server, address)
                rig.enrol()
                try:
                    return {**update(rig), **idle(rig, idle_s)}
                finally:
                    rig.close()
        finally:
            broker.stop()


def compile_first(folder: Path) -> None:
    """Let agents run from byte code, as installed ones do: compiling takes memory."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    for arguments in (["-c", IMPORTS], ["-m", "modelfleet_agent", "run", "--help"]):
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)


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
    with Phases(rig.dir / "journal" / rigs.SLOT) as phases:
        began = time.monotonic()
        rig.deploy(new, old)
        row = rig.serves(new)
        took = time.monotonic() - began
    print(f"  phases of the update: {phases.told(began)}; reported after {took:.3f} s")
    assert row.method == "delta"
    offer = DeltaOffer(blob, len(patch), "td1", 1 << 20)
    parts = sum_of_parts(rig, digests, offer, second)
    served = phases.ended - began
    return {
        "update_ratio": round(served / sum(parts.values()), 3),
        "update_s": round(served, 3),
        **{f"update_{name}_s": round(value, 3) for name, value in parts.items()},
        "delta_bytes": len(patch),
    }


class Phases:
    """Follows the journal of a slot: when which phase began."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._seen: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> "Phases":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def ended(self) -> float:
        """When the release served and was kept, by the monotonic clock."""
        return self._seen[-1][0]

    def told(self, began: float) -> str:
        """Return the seconds that each phase took."""
        before = [("idle", began), *((phase, at) for at, phase in self._seen)]
        return ", ".join(
            f"{phase} {after - at:.3f}" for (phase, at), (_, after) in pairwise(before)
        )

    def _follow(self) -> None:
        last = Phase.IDLE.value
        while not self._stop.wait(0.002):
            found = read_value(Pages(self._journal, size=PAGE), Entry, Entry()).phase.value
            if found != last:
                self._seen.append((time.monotonic(), found))
                last = found


def sum_of_parts(
    rig: Rig, digests: list[str], offer: DeltaOffer, data: bytes
) -> dict[str, float]:
    """Transfer, apply in a limited child, bare load: each alone, medians of three."""
    me = rig.me
    took: dict[str, list[float]] = {"transfer": [], "apply": [], "load": []}
    base = rig.dir / "store" / digests[1]
    for number in range(3):
        store = Store(rig.dir.parent / f"parts{number}")
        began = time.monotonic()
        fetcher = Fetcher(me.server, me.token, store)
        got = fetcher.fetch_patch(offer)
        fetcher.close()
        took["transfer"].append(time.monotonic() - began)
        out, began = store.partials / "out", time.monotonic()
        patching.run(
            patching.Spec(
                old=str(base),
                patch=str(got.path),
                new=str(out),
                digest=digests[0],
                length=len(data),
            )
        )
        took["apply"].append(time.monotonic() - began)
        placed = models.release(store, data, "1.1.0")
        took["load"].append(bare_load_s(placed))
    return {name: median(values) for name, values in took.items()}


def idle(rig: Rig, seconds: float) -> dict[str, Any]:
    assert rig.process
    pid = rig.process.pid
    before = cpu_s(pid)
    threading.Event().wait(seconds)
    busy = cpu_s(pid) - before
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


def cpu_s(pid: int) -> float:
    """Return what a process has used: by its clock, since ticks of 10 ms are too coarse."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3), which Python lacks
