"""Two released versions with real files, devices that run the first, and a planner."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from sqlmodel import Session
from tests.server.builds.models import digits
from tests.support.fleet import ACTOR, NOW, FleetUnderTest, begin, make_schema, make_variant

from modelfleet_manifests import delta
from modelfleet_manifests.digests import EMPTY
from modelfleet_manifests.profiles import Facts, matching_profiles, write_facts
from modelfleet_manifests.release import File, ReleaseRef
from modelfleet_server.blobs.service import Blob, BlobStore, keep
from modelfleet_server.catalog import service as catalog
from modelfleet_server.catalog.versions import NewVersion
from modelfleet_server.deltas import service
from modelfleet_server.deltas.domain import Budget, State
from modelfleet_server.deltas.planner import Planner
from modelfleet_server.deltas.service import KIND, Order
from modelfleet_server.deltas.tables import Delta
from modelfleet_server.devices.domain import DeviceState
from modelfleet_server.devices.tables import Device, Member, SlotState
from modelfleet_server.jobs import service as jobs
from modelfleet_server.jobs.run import Run
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust.tables import Proposal

MODEL, SLOT = "demo/digits", "digits"
PLENTY = Budget(64, 1 << 30, 600_000)
X86 = Facts(arch="x86_64", cpu=["avx2"], runtime="onnxruntime 1.32", agent="0.1.0")
LINEAGE = {
    "code": "a" * 64,
    "data": "b" * 64,
    "environment": "c" * 64,
    "hyperparameters": {},
}


@dataclass
class Yard:
    """What a plan is made in."""

    database: Database
    blobs: BlobStore
    fleet: FleetUnderTest
    scratch: Path
    files: dict[str, str] = field(default_factory=dict)
    releases: dict[str, ReleaseRef] = field(default_factory=dict)

    def release(self, version: str, data: bytes, *, packed: bool = True) -> ReleaseRef:
        """Let a version be built, packed and signed; `data` is its one variant's file."""
        master = self.blobs.put(data)
        files = (master, self.blobs.put(b"golden"))
        new = NewVersion(
            model=MODEL, version=version, master=master.digest,
            evaluation=self.blobs.put(b"samples").digest, lineage=LINEAGE,
            schema=make_schema(), profiles=["generic"],
        )  # fmt: skip
        variant = msgspec.structs.replace(
            make_variant("generic", version),
            files=[File(name="model.onnx", digest=master.digest, length=master.length)],
        )
        with self.database.write() as session:
            row = catalog.create_version(session, self.blobs, new, actor=ACTOR, now_ms=NOW)
            for blob in files:
                keep(session, blob, at_ms=NOW)
            if packed:
                patch = self.blobs.put(delta.encode(b"", data))
                offer = catalog.Patch(patch, "novel", 1)
                catalog.offer_delta(session, master.digest, EMPTY, offer, now_ms=NOW)
            catalog.add_variant(session, row.id, variant, at_ms=NOW)
            catalog.finish_building(session, row.id, now_ms=NOW)
            proposal = session.get(Proposal, row.proposal)
            assert proposal
            self.fleet.approve(session, proposal)
            ref, _ = catalog.find_release(session, MODEL, version)
        self.files[version], self.releases[version] = master.digest, ref
        return ref

    def run(
        self,
        version: str | None,
        count: int = 1,
        *,
        wanted: str | None = None,
        group: str | None = None,
    ) -> None:
        """Let so many new devices report that they run a version, or None for nothing."""
        facts = json.dumps(write_facts(X86))
        with self.database.write() as session:
            for _ in range(count):
                name = f"dev-{new_id()[:8]}"
                session.add(
                    Device(
                        id=name, enrolment=new_id(), state=DeviceState.ENROLLED,
                        report_key="0" * 64, token_hash=new_id() * 2, nonce=new_id(),
                        facts_json=facts, profile=matching_profiles(X86)[0],
                        enrolled_ms=NOW, reported_ms=NOW,
                    )
                )  # fmt: skip
                session.flush()
                if group is not None:
                    session.add(Member(group_id=group, device=name))
                if version is None:
                    continue
                session.add(
                    SlotState(
                        device=name, slot=SLOT, phase="idle", action="keep",
                        reason="as-wanted", detail="", model=MODEL, version=version,
                        digest=self.files[version], wanted=wanted,
                        release=self.releases[version].id,
                        reported_ms=NOW, changed_ms=NOW,
                    )
                )  # fmt: skip

    def planner(self, budget: Budget = PLENTY) -> Planner:
        return Planner(self.database, self.blobs, self.scratch, budget, lambda: NOW)

    def plan(
        self, version: str, budget: Budget = PLENTY, *, retry: bool = False
    ) -> list[str]:
        """Ask for a plan and work it off here; return its steps."""
        ref, steps = self.releases[version], []
        with self.database.write() as session:
            job = service.request(session, ref, actor=ACTOR, at_ms=NOW, retry=retry)
            job.payload_json = msgspec.json.encode(Order(ref.id, retry)).decode()
            session.add(job)

        def do_once(name: str, do: Callable[[], str]) -> str:
            steps.append(name)
            return do()

        run = Run(job, do_once, lambda _: True)
        self.planner(budget).work(run)
        with self.database.write() as session:
            held = jobs.find_jobs(session, KIND, [ref.id])[ref.id]
            session.delete(held)
        return steps

    def found(self, old: str, new: str) -> Delta | None:
        with self.database.read() as session:
            return session.get(Delta, (self.files[new], self.files[old]))

    def state(self, old: str, new: str) -> State | None:
        row = self.found(old, new)
        return row.state if row else None

    def offer(self, old: str, new: str) -> Blob | None:
        with self.database.read() as session:
            held = catalog.find_delta(session, self.files[new], self.files[old])
            return Blob(held.blob, held.length) if held else None


@pytest.fixture
def yard(database: Database, blobs: BlobStore, tmp_path: Path) -> Iterator[Yard]:
    fleet = begin(database, tmp_path)
    fleet.publisher.on_closed.append(catalog.on_closed)
    yard = Yard(database, blobs, fleet, tmp_path / "scratch")
    for version in ("1.0.0", "1.1.0"):
        yard.release(version, digits(version).read_bytes())
    yield yard
    assert not list(yard.scratch.glob("*"))


@pytest.fixture
def session(yard: Yard) -> Iterator[Session]:
    with yard.database.write() as session:
        yield session
