"""The inbox: verify, then parse, then order; what holds is on disk before it counts."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.link.orders import Orders
from modelfleet_agent.link.outcomes import (
    Accepted,
    Document,
    NeedsMetadata,
    Outcome,
    Refused,
    Same,
)
from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.assignment import Assignment, ByGroup
from modelfleet_manifests.canonical import parse
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import NotUnderstood, cap_of, read_directed
from modelfleet_manifests.envelope import peek, unseal
from modelfleet_manifests.errors import AddressError, EchoError, FormatError, ManifestError
from modelfleet_manifests.header import check_address, check_order, read_header
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.report import Held
from modelfleet_manifests.topics import Address, device_topic, parse_topic
from modelfleet_manifests.wanted import Documents

__all__ = ["Accepted", "Inbox", "NeedsMetadata", "Outcome", "Refused", "Same"]

FOLDER = "documents"
NO_NONCE = "0" * 32
# Of documents that are not judged yet, so many are kept: a stranger can send any number.
MAX_WAITING = 17

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A document that is held, with the envelope that proves it."""

    document: Document
    held: Held
    envelope: bytes


class _NewerEpochError(Exception):
    """The document can only be judged with newer metadata."""

    def __init__(self, epoch: int) -> None:
        super().__init__(epoch)
        self.epoch = epoch


class Inbox:
    """The documents of the director that this device holds. Used by one thread."""

    def __init__(
        self, directory: Path, enrolment: Enrolment, trust: Callable[[], TrustState]
    ) -> None:
        """Load and verify again what `directory`/documents holds.

        A stored document that does not verify any more is dropped; a newer one will come.

        Args:
            directory: Of the agent.
            enrolment: Whom documents must be addressed to.
            trust: Gives the current verified metadata (`TrustDoor.load`).
        """
        self._folder = fsio.private_dir(directory / FOLDER)
        self._me = enrolment
        self._trust = trust
        self._own = device_topic(enrolment.device, "assignment")
        self._entries: dict[str, _Entry] = {}
        self._waiting: dict[str, bytes] = {}
        self._orders = Orders(directory)
        self._load()
        self._orders.adopt(self.held(), self._own)

    def receive(self, topic: str, payload: bytes) -> Outcome:
        """Judge what came by `topic`: an assignment or a deployment.

        Raises:
            RetryableError: The disk is in the way; the document that was held still holds.
        """
        if not payload:
            return Same(topic)
        try:
            entry = self._judge(topic, payload)
        except _NewerEpochError as error:
            return self._keep_waiting(topic, payload, error.epoch)
        except ManifestError as error:
            return Refused(topic, error.code, error.why)
        if entry is None:
            return Same(topic)
        # the order first: a document that is cut off here comes again as the same
        self._orders.note(topic, entry.held, answered=topic == self._own)
        fsio.write_atomic(self._path(topic), payload)
        self._entries[topic] = entry
        self._waiting.pop(topic, None)
        if topic == self._own:
            self._drop_strangers()
        return Accepted(topic, entry.document)

    def recheck(self) -> list[Outcome]:
        """Judge again after a metadata refresh: what waited, and what is held.

        A held document whose director key is gone is dropped (`Refused`).

        Raises:
            RetryableError: The disk is in the way; call it again.
        """
        outcomes: list[Outcome] = []
        for topic in sorted(self._entries, key=self._rank):
            if topic not in self._entries:
                continue  # gone with an assignment before it
            try:
                self._verify(topic, self._entries[topic].envelope)
            except (ManifestError, _NewerEpochError) as error:
                self._drop(topic)
                code = error.code if isinstance(error, ManifestError) else "E_EPOCH"
                outcomes.append(Refused(topic, code, str(error)))
        waiting = sorted(self._waiting, key=self._rank)
        return outcomes + [self.receive(one, self._waiting.pop(one)) for one in waiting]

    def documents(self) -> Documents:
        """Return what is held, as the resolver takes it."""
        own = self._entries.get(self._own)
        deployments: dict[str, Deployment | NotUnderstood] = {}
        for topic, entry in self._entries.items():
            address = parse_topic(topic)
            if address and address.group and not isinstance(entry.document, Assignment):
                deployments[address.group] = entry.document
        assignment = own.document if own else None
        if isinstance(assignment, Deployment):
            raise TypeError("the held assignment is a deployment")
        return Documents(assignment=assignment, deployments=deployments)

    def held(self) -> Mapping[str, Held]:
        """Return order and digest of what is held, by topic, as reports carry it."""
        return {topic: entry.held for topic, entry in self._entries.items()}

    def groups(self) -> frozenset[str]:
        """Return the ids of the groups that the held assignment names.

        An assignment that is not understood names none, but what is held stays.
        """
        own = self._entries.get(self._own)
        if own is None or not isinstance(own.document, Assignment):
            return frozenset()
        governors = own.document.slots.values()
        return frozenset(one.group for one in governors if isinstance(one, ByGroup))

    @property
    def challenge(self) -> str:
        """What the next assignment has to repeat; empty where nothing was lost."""
        return self._orders.challenge

    @property
    def nonce(self) -> str:
        """Of the held assignment; 32 zeros before the first."""
        own = self._entries.get(self._own)
        return (
            own.document.nonce if own and isinstance(own.document, Assignment) else NO_NONCE
        )

    def _judge(self, topic: str, payload: bytes) -> _Entry | None:
        """Return the document if it is to be held from now on; None if it is held already.

        Raises:
            ManifestError: It is refused.
            _NewerEpochError: Its epoch is not known yet.
        """
        entry = self._verify(topic, payload)
        self._check_echo(topic, entry.document)
        order, digest = self._orders.newest(topic) or (None, None)
        newer = check_order(
            entry.document.header.order, entry.held.digest, order, digest, topic
        )
        held = self._entries.get(topic)
        # the newest one that was ever seen is taken again where another or none is held
        return entry if newer or held is None or held.held != entry.held else None

    def _check_echo(self, topic: str, document: Document) -> None:
        """While it is not known what was held before, only an answer counts."""
        if topic != self._own or not self.challenge:
            return
        if not isinstance(document, Assignment) or document.echo != self.challenge:
            raise EchoError(topic, "is not made for this device since it lost its memory")

    def _verify(self, topic: str, envelope: bytes) -> _Entry:
        """Bytes first, then fields, then the address."""
        address = self._address(topic)
        state = self._trust()
        epoch = _peek_epoch(envelope, address.kind)
        if epoch > state.epoch:
            raise _NewerEpochError(epoch)
        keys = [PublicKey(one) for one in state.director]
        payload = unseal(envelope, address.kind, keys, cap=cap_of(address.kind))
        document: Document = (
            read_directed(payload, Assignment, "assignment")
            if address.kind == "assignment"
            else read_directed(payload, Deployment, "deployment")
        )
        header = document.header
        check_address(header, address, fleet=self._me.fleet, enrolment=self._me.enrolment)
        held = Held(epoch=header.epoch, counter=header.counter, digest=sha256(payload))
        return _Entry(document, held, envelope)

    def _address(self, topic: str) -> Address:
        """Return what a topic says, if the device listens to it."""
        address = parse_topic(topic)
        if address is None or address.kind not in {"assignment", "deployment"}:
            raise AddressError(topic, "is no topic of documents")
        if address.device is not None and topic != self._own:
            raise AddressError(topic, "is another device's")
        if address.group is not None and not self._may_hold(address.group):
            raise AddressError(topic, "is of a group that does not govern this device")
        return address

    def _may_hold(self, group: str) -> bool:
        own = self._entries.get(self._own)
        if own is not None and isinstance(own.document, NotUnderstood):
            return True  # which groups it names is not known: keep what there is
        return group in self.groups()

    def _keep_waiting(self, topic: str, payload: bytes, epoch: int) -> Outcome:
        if topic not in self._waiting and len(self._waiting) >= MAX_WAITING:
            return Refused(topic, "E_EPOCH", f"epoch {epoch} is not known, and others wait")
        self._waiting[topic] = payload
        return NeedsMetadata(topic, epoch)

    def _drop_strangers(self) -> None:
        """Forget deployments of groups that the new assignment does not name."""
        strange = []
        for topic in [one for one in self._entries if one != self._own]:
            address = parse_topic(topic)
            if address is None or not self._may_hold(address.group or ""):
                self._drop(topic)
                strange.append(topic)
        self._orders.forget(strange)

    def _drop(self, topic: str) -> None:
        del self._entries[topic]
        fsio.remove(self._path(topic))

    def _load(self) -> None:
        paths = self._folder.glob("mf_*")
        for topic in sorted((_topic_of(path) for path in paths), key=self._rank):
            try:
                self._entries[topic] = self._verify(topic, self._path(topic).read_bytes())
            except (ManifestError, _NewerEpochError, OSError) as error:
                log.warning(
                    "MF_DAMAGED the stored document of %s is dropped: %s", topic, error
                )
                fsio.remove(self._path(topic))
        for path in self._folder.glob(f"{fsio.TMP}*"):
            fsio.remove(path)

    def _rank(self, topic: str) -> tuple[bool, str]:
        """The assignment first: it says which deployments may be held."""
        return topic != self._own, topic

    def _path(self, topic: str) -> Path:
        return self._folder / topic.replace("/", "_")


def _topic_of(path: Path) -> str:
    return path.name.replace("_", "/")  # neither devices nor groups have a `_`


def _peek_epoch(envelope: bytes, kind: str) -> int:
    """Return the epoch that an unverified envelope claims: it only decides what to fetch.

    Raises:
        SizeError, FormatError: It is not an envelope of such a document.
    """
    cap = cap_of(kind)
    value = parse(peek(envelope, kind, cap=cap), what=kind, cap=cap)
    if not isinstance(value, dict):
        raise FormatError(kind, "is not an object")
    return read_header(value, kind).epoch
