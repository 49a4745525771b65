"""A broker and a server in hostile hands, over a history that was honestly signed.

The adversary holds everything that ever was published. It delivers what it likes, in any
order, again or never, and empties topics; it serves any earlier state of the metadata. It
signs nothing.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tests.support.solo import SoloFleet, make_release, make_step, random_id
from tests.support.solo_device import EnrolledDevice

from modelfleet_agent.link.inbox import Inbox
from modelfleet_manifests import topics
from modelfleet_manifests.assignment import Assignment
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.header import Minimum
from modelfleet_manifests.profiles import Facts
from modelfleet_manifests.release import Release, ReleaseRef, release_ref
from modelfleet_manifests.resolve import resolve
from modelfleet_manifests.wanted import Action, Local, Reason, Wanted

SLOT = "main"


@dataclass
class Honest:
    """What people and director really published, the oldest first."""

    fleet: SoloFleet
    device: str
    enrolment: str
    group: str = field(default_factory=random_id)
    releases: list[Release] = field(default_factory=list)
    metadata: list[dict[str, bytes]] = field(default_factory=list)
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    bodies: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    floor: str = "0.0.0"
    deployed: Release | None = None

    def publish(self) -> None:
        if self.metadata:  # whatever an adversary serves meanwhile, nothing is unpublished
            self.fleet.files.metadata = dict(self.metadata[-1])
        self.fleet.publish()
        self.metadata.append(dict(self.fleet.files.metadata))
        self.messages.append((topics.RECALLS, self.fleet.recalls()))

    def release(self) -> None:
        version = f"1.{len(self.releases)}.0"
        before = [one.version for one in self.releases]
        made = make_release(self.fleet.files, version, rollback_to=before)
        self.fleet.add_release(made)
        self.releases.append(made)
        self.publish()

    def assign(self) -> None:
        data = self.fleet.assignment(self.device, self.enrolment, {SLOT: self.group})
        self._say(topics.device_topic(self.device, "assignment"), data)

    def deploy(self, which: int) -> None:
        if self.releases:
            self.deployed = self.releases[which % len(self.releases)]
            self._deploy(self.deployed)

    def _deploy(self, release: Release) -> None:
        seen = self.fleet.roles
        data = self.fleet.deployment(
            self.group,
            {SLOT: [make_step(release_ref(release))]},
            min=Minimum(root=seen["root"].version, timestamp=seen["timestamp"].version),
        )
        self._say(topics.deployment_topic(self.group), data)

    def stop(self, which: int) -> None:
        if self.releases:
            self.fleet.stop(release_ref(self.releases[which % len(self.releases)]).id)
            self.publish()

    def stop_range(self, which: int) -> None:
        """Stop one version and the next, by a range."""
        if self.releases:
            number = which % len(self.releases)
            name = f"demo:digits@1.{number}.0,1.{number + 2}.0"
            self.fleet.stop(name, kind="range")
            self.publish()

    def raise_floor(self, which: int) -> None:
        if self.releases:
            version = self.releases[which % len(self.releases)].version
            if tuple(map(int, version.split("."))) > tuple(map(int, self.floor.split("."))):
                self.floor = version
                self.fleet.set_floor("demo/digits", version)
                self.publish()

    def rotate_online(self) -> None:
        """Versions begin again; documents that ask for the old ones are signed anew."""
        self.fleet.rotate_online()
        self.publish()
        if self.deployed:
            self._deploy(self.deployed)

    def _say(self, topic: str, data: bytes) -> None:
        self.messages.append((topic, data))
        self.bodies.add(sha256(data))


@dataclass
class Victim:
    """A device: the agent's inbox, its metadata child's work, its resolver."""

    at: EnrolledDevice
    local: Local = field(default_factory=Local)
    installed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inbox = self._open()

    def _open(self) -> Inbox:
        return Inbox(self.at.directory, self.at.me, lambda: self.at.state)

    def reboot(self) -> None:
        self.at.reboot()  # it does not know any more what time it is
        self.inbox = self._open()

    def lose_documents(self) -> None:
        """Start again without them; their orders are remembered apart."""
        for path in (self.at.directory / "documents").glob("mf_*"):
            path.unlink()
        self.reboot()

    def hear(self, topic: str, data: bytes) -> None:
        if topic == topics.RECALLS:
            if data:
                self.at.recall(data)
            return
        self.inbox.receive(topic, data)

    def refresh(self, metadata: dict[str, bytes], *want: ReleaseRef) -> str:
        self.at.fleet.files.metadata = dict(metadata)
        code = self.at.refresh(*want).code
        self.inbox.recheck()
        return code

    def decide(self) -> Wanted:
        """Resolve, and act as the agent does: at once."""
        view = self.at.door().view(self.at.fleet.now)
        documents = self.inbox.documents()
        found = resolve(Facts(), documents, view, {SLOT: self.local}, self.at.fleet.now)
        wanted = found[SLOT]
        if wanted.action is Action.INSTALL and wanted.release and wanted.variant:
            release = wanted.release.id
            ran = (*(one for one in self.local.ran if one != release), release)
            self.local = Local(
                release=release,
                digest=wanted.variant.digest,
                model=wanted.release.model,
                version=wanted.release.version,
                ran=ran,
                present=frozenset(ran),
                proven=frozenset(ran),
            )
            if wanted.reason is not Reason.RECALLED:
                self.installed.append(release)
        elif wanted.action in {Action.STOP, Action.REMOVE}:
            self.local = Local(
                ran=self.local.ran, present=self.local.present, proven=self.local.proven
            )
        return wanted

    @property
    def held(self) -> dict[str, str]:
        """Digests of the envelopes that it holds, by topic."""
        folder: Path = self.at.directory / "documents"
        return {path.name: sha256(path.read_bytes()) for path in folder.glob("mf_*")}

    @property
    def assignment(self) -> Assignment | None:
        found = self.inbox.documents().assignment
        return found if isinstance(found, Assignment) else None
