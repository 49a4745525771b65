"""A fleet that was really begun: real keys, real ceremony, real signatures.

`begin(database, folder)` holds the solo ceremony with a cheap passphrase; the rest does
what operator, approver and server do, in one call each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import Session

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.release import (
    Demands,
    File,
    Golden,
    Release,
    Schema,
    Tensor,
    Variant,
    release_ref,
)
from modelfleet_server.kit.db import Database
from modelfleet_server.trust import approving, proposals, proposing, recalling, store
from modelfleet_server.trust.approver import ApproverKeys, Cost, open_approver
from modelfleet_server.trust.approving import InForce, ProposalCopy
from modelfleet_server.trust.ceremony import init_solo
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.domain import Kind
from modelfleet_server.trust.online import read_rings
from modelfleet_server.trust.proposals import Publisher
from modelfleet_server.trust.signer.desk import Desk
from modelfleet_server.trust.signer.memory import Memory
from modelfleet_server.trust.tables import Proposal

NOW = 1_790_000_000_000
PASSPHRASE = "correct horse battery"
ERA_MS = 20 * 365 * 86_400_000
CHEAP = Cost(passes=1, memory=8192)
ACTOR = "user:ada"


@dataclass
class FleetUnderTest:
    """What a fleet is made of."""

    fleet: str
    approver: ApproverKeys
    director: Director
    publisher: Publisher
    approver_path: Path

    def copy_of(self, session: Session, proposal: Proposal) -> ProposalCopy:
        """Return the proposal as an approver downloads it."""
        return ProposalCopy(
            proposal.id,
            proposal.title,
            {one.role: one.payload for one in store.roles_of(session, proposal.id)},
            store.targets_of(session, proposal.id),
        )

    def in_force(self, session: Session, proposal: Proposal) -> InForce:
        """Return what the approver verified."""
        roles = self.copy_of(session, proposal).roles
        return approving.fetch_in_force(fetcher(session), self.fleet, roles)

    def approve(self, session: Session, proposal: Proposal, now_ms: int = NOW) -> list[str]:
        """Sign the proposal with the approver's keys; return what it changes, in words."""
        copy, held = (
            self.copy_of(session, proposal),
            self.in_force(session, proposal),
        )
        lines = approving.describe(copy, held)
        signatures = approving.sign(copy, self.approver, held)
        proposals.attach(
            session, self.publisher, proposal.id, signatures, actor=ACTOR, now_ms=now_ms
        )
        return lines

    def release(
        self,
        session: Session,
        version: str = "1.0.0",
        *,
        model: str = "demo/digits",
        slots: Sequence[str] = ("digits",),
        rollback_to: Sequence[str] = (),
        now_ms: int = NOW,
    ) -> Release:
        """Propose, sign and publish a release; no files exist for it."""
        release = make_release(version, model=model, rollback_to=rollback_to)
        proposal = proposing.propose_release(
            session, release, slots=slots, actor=ACTOR, now_ms=now_ms
        )
        self.approve(session, proposal, now_ms)
        return release

    def recall(
        self,
        session: Session,
        name: str,
        kind: Kind = Kind.REVOCATION,
        now_ms: int = NOW,
    ) -> Proposal:
        """Propose, sign and publish a tombstone."""
        what = recalling.find_recalled(session, name)
        proposal = recalling.propose_recall(
            session, kind, what, "tested too little", actor=ACTOR, now_ms=now_ms
        )
        self.approve(session, proposal, now_ms)
        return proposal


def begin(
    database: Database,
    folder: Path,
    *,
    online_path: Path | None = None,
    now_ms: int = NOW,
) -> FleetUnderTest:
    """Hold the solo ceremony in `database`; key files go below `folder`."""
    approver_path = folder / "approver.key"
    online_path = online_path or folder / "keys" / "online.key"
    with database.write() as session:
        init_solo(
            session,
            online_path=online_path,
            approver_path=approver_path,
            passphrase=PASSPHRASE,
            now_ms=now_ms,
            cost=CHEAP,
        )
    signer = make_signer(online_path)
    return FleetUnderTest(
        fleet=signer.greet().fleet,
        approver=open_approver(approver_path, PASSPHRASE),
        director=Director(signer),
        publisher=Publisher(signer),
        approver_path=approver_path,
    )


def make_signer(online_path: Path) -> Desk:
    """Return the rules of the signer's process in this one, at whatever time tests say."""
    return Desk(lambda: read_rings(online_path), Memory(), lambda: NOW, slack_ms=ERA_MS)


def fetcher(session: Session) -> approving.Fetch:
    """Return what fetches metadata files straight from the database, by served name."""

    def fetch(name: str) -> bytes | None:
        head = name.removesuffix(".json").replace("%2F", "/")
        if head == "timestamp":
            row = store.find_newest(session, head)
        else:
            version, _, role = head.partition(".")
            row = store.find(session, role, int(version))
        return None if row is None else row.data

    return fetch


def make_schema(width: int = 64) -> Schema:
    """Return a schema with one input of `width` numbers."""
    return Schema(
        inputs=[Tensor(name="x", datatype="FP32", shape=[-1, width])],
        outputs=[Tensor(name="y", datatype="FP32", shape=[-1, 10])],
    )


def make_variant(profile: str, seed: str) -> Variant:
    """Return a variant whose digests come from `seed`."""
    return Variant(
        name=f"{profile}-fp32",
        profile=profile,
        opset=17,
        providers=[],
        files=[
            File(name="model.onnx", digest=sha256(f"{seed} {profile}".encode()), length=9)
        ],
        golden=Golden(
            file=File(name="golden.npz", digest=sha256(b"golden"), length=6),
            atol="0.001",
            rtol="0.001",
        ),
        recipe="1" * 64,
        toolchain="2" * 64,
        calibration="",
        vouched="rebuilt",
        metrics={"accuracy": "0.98"},
    )


def make_release(
    version: str = "1.0.0",
    *,
    model: str = "demo/digits",
    rollback_to: Sequence[str] = (),
) -> Release:
    """Return a release with two variants; its digests name no real files."""
    seed = f"{model} {version}"
    return Release(
        model=model,
        version=version,
        master=File(name="master.onnx", digest=sha256(seed.encode()), length=9),
        lineage="3" * 64,
        schema=make_schema(),
        modes=["active"],
        demands=Demands(),
        rollback_to=list(rollback_to),
        variants=[make_variant("x86-avx2", seed), make_variant("generic", seed)],
    )


def id_of(release: Release) -> str:
    """Return the release id."""
    return release_ref(release).id
