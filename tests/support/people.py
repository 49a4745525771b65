"""People with keys, and devices that verify what they signed; all of it real.

ann, ben = office.hire("ann", "ben")
office.rekey(KeyPlan({"root": key_set("root", [ann, ben], 2)}), office.solo, ann, ben)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from tests.support.fleet import ACTOR, NOW, FleetUnderTest, id_of, make_signer
from tests.support.solo_content import random_id

from modelfleet_agent.trust.__main__ import perform
from modelfleet_agent.trust.memory import believe
from modelfleet_agent.trust.messages import Answer, Recall, Refresh, Wish
from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.names import release_path
from modelfleet_manifests.release import Release
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import ForbiddenError
from modelfleet_server.trust import approving, proposals, proposing, rekeying
from modelfleet_server.trust.approver import ApproverKeys
from modelfleet_server.trust.delegations import KeySet
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.domain import State
from modelfleet_server.trust.keyplan import KeyPlan
from modelfleet_server.trust.proposals import Publisher
from modelfleet_server.trust.publishing import keep_fresh
from modelfleet_server.trust.tables import Proposal


@dataclass
class Person:
    """Somebody with keys of their own for every role."""

    name: str
    keys: ApproverKeys

    @classmethod
    def of(cls, name: str, fleet: str) -> "Person":
        return cls(name, ApproverKeys(fleet, ApproverKeys.generate()))

    def public(self, role: str) -> PublicKey:
        return self.keys.by_role[role].public


def key_set(role: str, people: Sequence[Person], threshold: int) -> KeySet:
    """Return the keys of `people` for a role."""
    return KeySet(tuple(one.public(role) for one in people), threshold)


@dataclass
class Office:
    """A fleet with the people who sign for it, at a time that only moves when told."""

    fleet: FleetUnderTest
    database: Database
    online_path: Path
    now: int = NOW
    people: list[Person] = field(default_factory=list)

    @property
    def solo(self) -> Person:
        return Person("solo", self.fleet.approver)

    def hire(self, *names: str) -> list[Person]:
        hired = [Person.of(name, self.fleet.fleet) for name in names]
        self.people += hired
        return hired

    def restart(self) -> None:
        """Start the server again: it reads the key files that are there."""
        signer = make_signer(self.online_path)
        self.fleet.director, self.fleet.publisher = Director(signer), Publisher(signer)

    def propose(self, plan: KeyPlan) -> str:
        with self.database.write() as session:
            return rekeying.propose_keys(
                session, plan, "as agreed", actor=ACTOR, now_ms=self.now
            ).id

    def sign(self, proposal_id: str, *people: Person) -> State:
        """Let people sign one after the other; return what became of the proposal."""
        for person in people:
            with self.database.write() as session:
                proposal = session.get(Proposal, proposal_id)
                assert proposal is not None
                if proposal.state is not State.OPEN:
                    break
                copy = self.fleet.copy_of(session, proposal)
                held = self.fleet.in_force(session, proposal)
                approving.describe(copy, held)
                signatures = approving.sign(copy, person.keys, held)
                proposals.attach(
                    session,
                    self.fleet.publisher,
                    proposal_id,
                    signatures,
                    actor=f"user:{person.name}",
                    now_ms=self.now,
                )
        with self.database.read() as session:
            found = session.get(Proposal, proposal_id)
            assert found is not None
            return found.state

    def rekey(self, plan: KeyPlan, *people: Person) -> State:
        return self.sign(self.propose(plan), *people)

    def release(self, release: Release, *people: Person) -> State:
        with self.database.write() as session:
            proposal = proposing.propose_release(
                session, release, slots=["digits"], actor=ACTOR, now_ms=self.now
            )
            proposal_id = proposal.id
        return self.sign(proposal_id, *people)

    def pass_days(self, days: int, *people: Person) -> None:
        """Let time go by; renew what ran out, as people do, and what the server does."""
        self.now += days * 86_400_000
        with self.database.write() as session:
            held = rekeying.read_held(session)
            roles = ["targets", *sorted(held.roles, key=lambda one: ("/" in one, one))]
            proposal_id = proposing.propose_renewal(
                session, roles, actor=ACTOR, now_ms=self.now
            ).id
        assert self.sign(proposal_id, *people) is State.PUBLISHED
        self.freshen()

    def freshen(self) -> None:
        with self.database.write() as session:
            keep_fresh(session, self.fleet.publisher.signer, self.now)


def may_sign(office: Office, proposal_id: str, person: Person) -> bool:
    """Say whether any key of a person counts for a proposal."""
    try:
        office.sign(proposal_id, person)
    except ForbiddenError:
        return False
    return True


class TrustDevice:
    """What the agent's metadata child does, in this process."""

    def __init__(self, url: str, fleet: str, directory: Path) -> None:
        self.url, self.fleet, self.directory = url, fleet, directory
        root = httpx2.get(f"{url}/tuf/metadata/1.root.json").content
        (directory / "factory").mkdir(parents=True)
        (directory / "factory" / "root.json").write_bytes(root)

    def refresh(self, *want: Release) -> Answer:
        wishes = [Wish(release_path(one.model, one.version), id_of(one)) for one in want]
        return perform(
            Refresh(
                directory=str(self.directory),
                fleet=self.fleet,
                server=self.url,
                token="none",
                nonce=random_id(),
                want=wishes,
            )
        )

    def recall(self, payload: bytes) -> Answer:
        return perform(
            Recall(directory=str(self.directory), fleet=self.fleet, payload=payload)
        )

    @property
    def state(self) -> TrustState:
        return believe(self.directory, self.fleet)

    @property
    def listed(self) -> set[str]:
        return set(self.state.listed.values())
