"""One slot's engine with everything real around it: server, store, runtime child."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.agent import models
from tests.support.solo import Files, SoloFleet
from tests.support.solo_http import FleetServer, serve
from tests.support.waiting import eventually

from modelfleet_agent.clock import now_ms
from modelfleet_agent.errors import AgentError
from modelfleet_agent.link.fetch import Fetcher
from modelfleet_agent.runtime.client import RuntimeClient
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store import FileEntry, Record, Slots, Store
from modelfleet_agent.update.deriving import Deriver
from modelfleet_agent.update.engine import Engine
from modelfleet_agent.update.goal import Goal
from modelfleet_agent.update.phases import Phase
from modelfleet_agent.update.state import SlotState
from modelfleet_agent.update.work import Tools
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.profiles import Facts

SLOT = "linear"


def offer(
    files: Files, version: str, data: bytes, golden: bytes | None = None, **fields: object
) -> Record:
    """Offer a model as blobs and return the record that a device keeps of it."""
    gold = golden or models.golden(data)
    for blob in (data, gold):
        files.add_blob(blob)
    return Record(
        release=sha256(version.encode()),
        model="demo/linear",
        version=version,
        profile="generic",
        files=(FileEntry("model.onnx", sha256(data), len(data)),),
        golden=FileEntry("golden.npz", sha256(gold), len(gold)),
        atol="0.0001",
        rtol="0.001",
    )


def goal(record: Record, step: str | None = "a" * 32, **changes: object) -> Goal:
    fields = {"variant": "generic-fp32", "step": step, "trial_ms": 150} | changes
    return Goal(record=record, **fields)  # type: ignore[arg-type]


@dataclass
class Bench:
    """An engine, what it stands on, and what it told."""

    dir: Path
    server: FleetServer
    runtime: RuntimeClient
    notices: list[AgentError] = field(default_factory=list)
    phases: list[Phase] = field(default_factory=list)
    stopped: set[str] = field(default_factory=set)
    now: int = 0
    prepares: bool = False
    facts: Facts = field(default_factory=lambda: Facts(runtime="onnxruntime 1"))
    deriver: Deriver | None = None

    def __post_init__(self) -> None:
        self.store = Store(self.dir)
        self.slots = Slots(self.store)
        if self.prepares:
            self.deriver = Deriver(self.store, facts=lambda: self.facts, prepares=True)
        self.tools = Tools(
            dir=self.dir,
            store=self.store,
            slots=self.slots,
            runtime=self.runtime,
            fetcher=lambda: Fetcher(self.server.url, "t", self.store),
            clock=lambda: self.now or now_ms(),
            rng=lambda: 0.5,
            is_stopped=lambda record: record.release in self.stopped,
            notice=lambda _slot, error: self.notices.append(error),
            given_deriver=self.deriver,
        )
        self.engine = self.open()

    @property
    def files(self) -> Files:
        return self.server.fleet.files

    def open(self) -> Engine:
        """Open the engine as a new start of the agent does."""
        self.engine = Engine(SLOT, self.tools, on_change=self._note)
        return self.engine

    def have(self, record: Record, step: str = "a" * 32) -> None:
        """Let a release serve that passed its trial in an earlier life."""
        for file in record.wanted:
            models.put(self.store, file.name, self.files.blobs[file.digest])
        self.slots.advance(SLOT, record)
        state = SlotState(current=record, variant="generic-fp32", step=step).begin(step)
        self.engine.memory.save(state.prove(record.release))
        assert self.engine.serve(record)

    def bring(self, wanted: Goal) -> None:
        """Work on a goal to its end."""
        self.phases.clear()
        self.engine.start(wanted)
        self.settle()

    def settle(self) -> None:
        eventually(lambda: not self.engine.busy, "the engine rests", 60)

    def serves(self) -> str:
        """Return the digest of what answers requests, as the child says."""
        return next(
            (row.digest for row in self.runtime.statistics().releases if row.active), ""
        )

    def _note(self, _slot: str) -> None:
        phase = self.engine.entry.phase
        if not self.phases or self.phases[-1] is not phase:
            self.phases.append(phase)


@pytest.fixture(scope="session")
def fleet() -> SoloFleet:
    return SoloFleet(now=now_ms())


@pytest.fixture(scope="session")
def runtime() -> Iterator[RuntimeClient]:
    """One child for all tests here: each leaves it empty."""
    client = RuntimeClient(RuntimeSettings())
    client.start()
    yield client
    client.stop()


@pytest.fixture
def bench(tmp_path: Path, fleet: SoloFleet, runtime: RuntimeClient) -> Iterator[Bench]:
    fleet.files.deltas.clear()  # the models repeat, and so would offers of other tests
    with serve(fleet) as server:
        made = Bench(tmp_path / "agent", server, runtime)
        yield made
        made.engine.close(10)
        runtime.start()
        runtime.unload(SLOT)
    assert not [one for one in threading.enumerate() if one.name.startswith("update-")]
