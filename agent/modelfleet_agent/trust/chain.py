"""The chain of metadata, from the factory's root down to a model's role; pure.

Signatures, versions, lengths, delegations and expiry are judged by python-tuf's
`TrustedMetadataSet`, which does no IO; what it does not know is judged here, before a role
counts and before it is kept: duplicate keys, groups of approvers, and the floors. The only
place that touches what python-tuf keeps private: that class, and its `encode_canonical`,
which makes two thirds of a cold client's work: ours gives the same text ten times faster.
`tests/agent/trust/test_library.py` notices a change.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
from tuf.api.exceptions import (
    DownloadHTTPError,
    EqualVersionNumberError,
    RepositoryError,
)
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import json as tuf_json
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from modelfleet_agent.trust.checks import (
    RECALLERS,
    DelegationError,
    GroupError,
    check_delegations,
    check_root,
    check_targets,
    public_keys,
)
from modelfleet_agent.trust.sight import Sight, expiry_of
from modelfleet_agent.trust.steps import Walk, Write, fetch, read
from modelfleet_manifests import tuf_keys as _register_nacl  # noqa: F401
from modelfleet_manifests.canonical import encode

tuf_json.encode_canonical = encode  # type: ignore[assignment]  # the same text

CACHE, METADATA = "tuf", "/tuf/metadata"
MAX_ROOTS = 4096
ROOT_CAP, TIMESTAMP_CAP, SNAPSHOT_CAP, ROLE_CAP = 512_000, 16_384, 2_000_000, 5_000_000
"""In bytes, where no signed length says less."""
ABSENT = (403, 404)
UNTOLD = datetime.max.replace(tzinfo=UTC)
"""Until a verified root says how late it is, everything has expired."""


class Chain:
    """What was verified of a fleet's metadata in one refresh."""

    def __init__(self, root: bytes, sight: Sight) -> None:
        """Begin with the fleet's first root.

        Args:
            root: Its metadata; a chain of roots is walked from the first one on, each time.
            sight: Takes note of everything that verifies.

        Raises:
            RepositoryError: It is no root.
        """
        self._trusted = TrustedMetadataSet(root, EnvelopeType.METADATA)
        self._trusted.reference_time = UNTOLD
        check_root(self.root)
        self._sight = sight
        self._roles: dict[str, Targets | Exception] = {}

    @property
    def root(self) -> Root:
        """The newest verified root."""
        return self._trusted.root

    @property
    def targets(self) -> Targets:
        """The verified top-level targets."""
        return self._trusted.targets

    def set_time(self, now: int) -> None:
        """Judge expiry at `now`, Unix ms, from here on."""
        late = now >= UNTOLD.timestamp() * 1000  # a thief of the time key tells any number
        self._trusted.reference_time = (
            UNTOLD if late else datetime.fromtimestamp(now / 1000, UTC)
        )

    def refresh(self) -> Walk[None]:
        """Verify root, timestamp, snapshot and top-level targets, each against its floor.

        Raises:
            RepositoryError: One of them does not verify, is older than was seen, or has
                expired at the clock's floor.
            DownloadError, AgentError: One of them cannot be had.
        """
        yield from self._walk_roots()
        # no expiry is judged before the newest root is known: the clock depends on it
        self._sight.under_root(self.root)
        self.set_time(self._sight.floors.clock)
        yield from self._load_timestamp()
        yield from self._load_snapshot()
        targets = yield from self._load("targets", "root")
        self._sight.expires["targets"] = expiry_of(targets)

    def load(self, name: str, parent: str) -> Walk[Targets]:
        """Return the verified metadata of a role that `parent` delegates.

        Raises:
            RepositoryError: It does not verify, is older than was seen, has expired, is not
                in the snapshot, or lacks a group's signature.
            DownloadError, AgentError: It cannot be had.
        """
        known = self._roles.get(name)
        if known is None:
            try:
                known = yield from self._load(name, parent)
            except (RepositoryError, DownloadHTTPError) as error:
                known = error
            self._roles[name] = known
        if isinstance(known, Exception):
            raise known
        return known

    def _walk_roots(self) -> Walk[None]:
        begin = self.root.version + 1
        for version in range(begin, begin + MAX_ROOTS):
            name = f"{version}.root.json"
            path = f"{CACHE}/root_history/{name}"
            held = yield from read(path)
            if held is None or not self._follow(held):
                try:
                    data = yield from fetch(f"{METADATA}/{name}", ROOT_CAP)
                except DownloadHTTPError as error:
                    if error.status_code not in ABSENT:
                        raise
                    return
                self._trusted.update_root(data)
                check_root(self.root)
                yield Write(path, data, durable=False)

    def _follow(self, data: bytes) -> bool:
        """Go on to a root that was kept; say whether it is one that follows."""
        try:
            self._trusted.update_root(data)
        except RepositoryError:
            return False
        check_root(self.root)
        return True

    def _load_timestamp(self) -> Walk[None]:
        path = _cached("timestamp")
        held = yield from read(path)
        try:
            if held is not None:
                with suppress(RepositoryError):
                    self._trusted.update_timestamp(held)
            data = yield from fetch(f"{METADATA}/timestamp.json", TIMESTAMP_CAP)
            try:
                self._trusted.update_timestamp(data)
            except EqualVersionNumberError:
                return
        finally:
            if Timestamp.type in self._trusted:
                self._sight.see_timestamp(self.root, self._trusted.timestamp)
        yield Write(path, data, durable=False)

    def _load_snapshot(self) -> Walk[None]:
        path = _cached("snapshot")
        held = yield from read(path)
        try:
            if held is not None:
                with suppress(RepositoryError):
                    self._trusted.update_snapshot(held, trusted=True)
                    return
            named = self._trusted.timestamp.snapshot_meta
            data = yield from fetch(
                f"{METADATA}/{named.version}.snapshot.json", named.length or SNAPSHOT_CAP
            )
            self._trusted.update_snapshot(data)
        finally:
            if Snapshot.type in self._trusted:
                self._sight.see_snapshot(self.root, self._trusted.snapshot)
        yield Write(path, data, durable=False)

    def _load(self, name: str, parent: str) -> Walk[Targets]:
        path = _cached(name)
        held = yield from read(path)
        if held is not None:
            with suppress(RepositoryError):
                return self._accept(held, name, parent)
        named = self._trusted.snapshot.meta.get(f"{name}.json")
        if named is None:
            raise RepositoryError(f"{name} is delegated, but not in the snapshot")
        file = f"{METADATA}/{named.version}.{quote(name, '')}.json"
        data = yield from fetch(file, named.length or ROLE_CAP)
        role = self._accept(data, name, parent)
        yield Write(path, data, durable=False)
        return role

    def _accept(self, data: bytes, name: str, parent: str) -> Targets:
        """Return the role in `data` if it verifies and is all that this device asks for."""
        role = self._trusted.update_delegated_targets(data, name, parent)
        above = self._trusted[parent]
        if isinstance(above, Root):
            check_targets(role)
            keys = above.keys
        elif isinstance(above, Targets):
            check_delegations(name, role)
            if name not in RECALLERS:
                self._check_groups(data, name, above)
            keys = above.delegations.keys if above.delegations else {}
        else:
            raise DelegationError(f"{parent} delegates nothing")
        signers = public_keys(above.get_delegated_role(name), keys)
        self._sight.see(name, role, signers)
        return role

    def _check_groups(self, data: bytes, name: str, above: Targets) -> None:
        """Of each group of approvers that the officers named one must have signed."""
        fields = self.targets.unrecognized_fields
        groups = read_field(fields.get("x-groups", []), list[list[str]], "x-groups")
        if not groups:
            return
        # the library says that enough of them signed, and not which
        metadata: Metadata[Targets] = Metadata.from_bytes(data)
        result = above.get_verification_result(
            name, metadata.signed_bytes, metadata.signatures
        )
        signers = {str(key.keyval["public"]) for key in result.signed.values()}
        for group in groups:
            if signers.isdisjoint(group):
                raise GroupError(
                    f"{name} lacks a signature of one of {len(group)} approvers"
                )


def read_field(value: object, kind: Any, name: str) -> Any:  # noqa: ANN401 - msgspec's types
    """Return a field of ours in the top-level targets.

    Raises:
        DelegationError: It is not of this kind.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise DelegationError(f"targets have a bad {name}: {error}") from error


def _cached(role: str) -> str:
    return f"{CACHE}/{quote(role, '')}.json"
