"""The rules of the signer: what is signed, with which key, and what never is.

Whoever asks is not believed. A snapshot names only files that enough people signed, and
takes nothing back that was settled; a timestamp names only such a snapshot; a document
names only listed releases; versions and orders rise, each is signed with one content, and
none far ahead of the clock.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from tuf.api.metadata import Signed, Snapshot, Timestamp

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.envelope import encode_pae, payload_type
from modelfleet_manifests.header import Order
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.names import release_path
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.timetoken import seal_token, write_token
from modelfleet_server.kit.clock import Clock
from modelfleet_server.trust import repository, rolefile
from modelfleet_server.trust.online import Online
from modelfleet_server.trust.repository import EPOCH
from modelfleet_server.trust.signer.domain import (
    Greeting,
    LacksError,
    NoOnlineKeyError,
    RefusedError,
    RoleFile,
    Signature,
    TakenError,
)
from modelfleet_server.trust.signer.memory import Kept, Memory
from modelfleet_server.trust.signer.reading import (
    ISSUED,
    read_body,
    read_role,
    releases_of,
    topic_of,
)
from modelfleet_server.trust.signer.vouching import Vouched

DAY_MS = 86_400_000
SLACK_MS = DAY_MS
"""How far times and counters may be off the signer's own clock."""

MAX_LIFE_MS = 31 * DAY_MS
MAX_STRIDE = 1000
"""A version rises by so much at most: nobody counts them up to the end."""


class Desk:
    """A `Signer` in this process.

    Args:
        rings: Returns the key files, newest first; asked again when a key is missing.
        memory: What was signed before.
        clock: Unix milliseconds.
        slack_ms: How far times may be off the clock.
    """

    def __init__(
        self,
        rings: Callable[[], Sequence[Online]],
        memory: Memory,
        clock: Clock,
        slack_ms: int = SLACK_MS,
    ) -> None:
        self._load, self._rings = rings, rings()
        self._memory, self._clock, self._slack_ms = memory, clock, slack_ms
        self._vouched = Vouched(memory, self._rings[0].fleet)
        self._listed: dict[str, Mapping[str, str]] = {}
        self._lock = threading.Lock()

    def greet(self) -> Greeting:
        """Return whose keys there are; files that were added meanwhile are read."""
        with self._lock:
            self._rings = self._load()
            roles = self._rings[0].keys.public()
            keys = {
                role: list(dict.fromkeys(one.keys.public()[role] for one in self._rings))
                for role in roles
            }
            return Greeting(self._rings[0].fleet, keys)

    def learn(self, files: Sequence[RoleFile]) -> None:
        """Take role files, see `Signer`."""
        with self._changing():
            for file in files:
                self._vouched.take(file)
                self._listed.pop(file.role, None)

    def sign_role(
        self, role: str, payload: bytes, key_ids: Collection[str], *, base: int
    ) -> Signature:
        """Sign a snapshot or timestamp, see `Signer`."""
        with self._changing():
            signed = read_role(role, payload)
            self._check_place(role, signed, sha256(payload))
            names: Mapping[str, int] = {}
            if isinstance(signed, Snapshot):
                names = self._check_snapshot(signed, base)
            elif isinstance(signed, Timestamp):
                self._check_timestamp(signed)
            key = self._pick(role, key_ids)
            value = key.sign(payload)
            file = rolefile.assemble(payload, {key.public.key_id: value.hex()})
            self._memory.keep(
                role, Kept(signed.version, sha256(payload), sha256(file), names)
            )
            return Signature(key.public.key_id, value)

    def sign_documents(
        self, kind: str, payloads: Sequence[bytes], key_ids: Collection[str]
    ) -> list[Signature]:
        """Sign documents of one kind, see `Signer`."""
        with self._changing():
            key = self._pick("director", key_ids, or_newest=True)
            for payload in payloads:
                self._check_document(kind, payload)
            media = payload_type(kind)
            return [
                Signature(key.public.key_id, key.sign(encode_pae(media, payload)))
                for payload in payloads
            ]

    def sign_time(self, nonce: str, key_ids: Collection[str]) -> bytes:
        """Sign what time it is, see `Signer`; nobody who asks chooses the time."""
        with self._lock:
            key = self._pick("time", key_ids)
        token = write_token(self._rings[0].fleet, nonce, self._clock())
        return seal_token(token, [key])

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            try:
                with self._memory.change():
                    yield
            except BaseException:
                self._vouched.forget()
                self._listed.clear()
                raise

    def _pick(
        self, role: str, key_ids: Collection[str], *, or_newest: bool = False
    ) -> PrivateKey:
        """Return the newest key of a role among `key_ids`."""
        found = self._find_key(role, key_ids)
        if found is None:
            self._rings = self._load()  # perhaps it was put there meanwhile
            found = self._find_key(role, key_ids)
        if found is None and or_newest:
            # devices refuse it until the officers name it
            found = self._rings[0].keys.director
        if found is not None:
            return found
        raise NoOnlineKeyError(
            f"none of the keys of {role} that are in force is on this server",
            "Put the key file of the rotation beside keys/online.key.",
            role=role,
        )

    def _find_key(self, role: str, key_ids: Collection[str]) -> PrivateKey | None:
        keys: list[PrivateKey] = [getattr(one.keys, role) for one in self._rings]
        return next((key for key in keys if key.public.key_id in key_ids), None)

    def _check_place(self, role: str, signed: Signed, digest: str) -> None:
        last = self._memory.last(role)
        if last is None:
            return
        if signed.version <= last.version and digest != last.digest:
            raise TakenError(
                f"the signer signed {role} {last.version} already",
                role=role,
                version=last.version,
            )
        if signed.version > last.version + MAX_STRIDE:
            raise RefusedError(
                f"{role} {signed.version} is far beyond {last.version}", role=role
            )

    def _check_snapshot(self, signed: Snapshot, base: int) -> Mapping[str, int]:
        names = {
            file.removesuffix(".json"): meta.version for file, meta in signed.meta.items()
        }
        for role, version in names.items():
            if not self._memory.is_known(role, version):
                raise LacksError(f"{role} {version} was never shown to it", role=role)
        before = self._memory.find("snapshot", base)
        if before is not None:
            self._memory.settle(before.names)
        for role, version in self._memory.settled().items():
            if names.get(role, 0) < version:
                raise RefusedError(
                    f"the snapshot takes back {role} {version}",
                    "If the database is an old backup, see: operate.md.",
                    role=role,
                )
        self._check_life("snapshot", int(signed.expires.timestamp()) * 1000)
        return names

    def _check_timestamp(self, signed: Timestamp) -> None:
        named = signed.snapshot_meta
        snapshot = self._memory.find("snapshot", named.version)
        hashes = named.hashes or {}
        if snapshot is None or hashes.get("sha256") != snapshot.file:
            raise RefusedError(
                f"the timestamp names a snapshot {named.version} of somebody else"
            )
        issued = signed.unrecognized_fields.get(ISSUED)
        if not isinstance(issued, int):
            raise RefusedError("the timestamp does not say when it was issued")
        self._check_near("the timestamp", issued)
        self._check_life("timestamp", int(signed.expires.timestamp()) * 1000)

    def _check_document(self, kind: str, payload: bytes) -> None:
        body = read_body(kind, payload)
        header = body.header
        if header.type != kind or header.fleet != self._rings[0].fleet:
            raise RefusedError(f"the {kind} is of another fleet or type")
        topic = topic_of(kind, header)
        self._check_near(f"the {kind}", header.issued)
        # a counter may rise above the clock, but not so far that no clock catches up
        if header.counter > self._clock() + self._slack_ms:
            raise RefusedError(f"the counter of the {kind} is far ahead of the clock")
        if not header.issued < header.expires <= header.issued + MAX_LIFE_MS:
            raise RefusedError(f"the {kind} would be in force for too long")
        officers = self._vouched.targets("targets")
        if header.epoch > officers.unrecognized_fields.get(EPOCH, 0):
            raise RefusedError(f"the epoch of the {kind} was not signed by the officers")
        for release in releases_of(body):
            self._check_listed(release)
        self._check_order(topic, header.order, sha256(payload))

    def _check_order(self, topic: str, order: Order, digest: str) -> None:
        last = self._memory.order(topic)
        if last is not None and order <= last[0] and digest != last[1]:
            epoch, counter = last[0]
            raise TakenError(
                f"the signer signed a document of {topic} with this order, or after it",
                topic=topic,
                epoch=epoch,
                counter=counter,
            )
        self._memory.note(topic, order, digest)

    def _check_listed(self, release: ReleaseRef) -> None:
        listed = self._listed.get(release.model)
        if listed is None:
            targets = self._vouched.targets(release.model).targets
            listed = {path: one.hashes.get("sha256", "") for path, one in targets.items()}
            self._listed[release.model] = listed
        if listed.get(release_path(release.model, release.version)) != release.id:
            raise LacksError(
                f"{release.model} {release.version} is not listed as {release.id[:12]}…",
                role=release.model,
            )

    def _check_near(self, what: str, at_ms: int) -> None:
        if abs(at_ms - self._clock()) > self._slack_ms:
            raise RefusedError(
                f"{what} is issued at a time far from the signer's clock",
                "Set the clock of the server.",
            )

    def _check_life(self, role: str, expires_ms: int) -> None:
        longest = repository.LIFE_DAYS[role] * DAY_MS + self._slack_ms
        if expires_ms > self._clock() + longest:
            raise RefusedError(f"the {role} would be in force for too long", role=role)
