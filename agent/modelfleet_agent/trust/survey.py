"""From verified metadata to the state that the supervisor reads. Runs in the child."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tuf.api.exceptions import (
    DownloadHTTPError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from modelfleet_agent import fsio
from modelfleet_agent.trust import faults
from modelfleet_agent.trust import floors as rules
from modelfleet_agent.trust.checks import (
    RECALLERS,
    DelegationError,
    FreezeError,
    GroupError,
    check_delegations,
    check_root,
    check_targets,
    public_keys,
)
from modelfleet_agent.trust.client import Client
from modelfleet_agent.trust.floors import Floors
from modelfleet_agent.trust.messages import Wish
from modelfleet_agent.trust.state import Signers, Slot, TrustState, release_file
from modelfleet_agent.trust.tombstones import read_pardons
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import MAX_RELEASE
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.recalls import names_of
from modelfleet_manifests.release import read_release
from modelfleet_manifests.semver import Version

MAX_LISTED = 256
TOP = ("targets", *RECALLERS)
NOT_LISTED, MISMATCH, STATEMENT = "E_NOT_LISTED", "E_MISMATCH", "E_STATEMENT"

log = logging.getLogger(__name__)


Ask = Callable[[Signers], int]
"""Returns what time it is, Unix ms, as the keys of a role told it; 0 where nobody did."""


class StatementError(RepositoryError):
    """A target that is listed as a release, but is none."""


@dataclass
class Survey:
    """Walks the metadata once, and collects what a new state is made of."""

    client: Client
    folder: Path
    before: TrustState
    floors: Floors
    seen: dict[str, int] = field(default_factory=dict)
    expires: dict[str, int] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def run(self, want: Collection[Wish], ask: Ask) -> TrustState:
        """Return the new state; statements of listed releases are on disk by then.

        Args:
            want: What is looked up.
            ask: Asks for the time, with the keys of the verified role `time`; returns 0
                where nobody tells it.

        Raises:
            RepositoryError, DownloadError, AgentError: Nothing is to change.
        """
        try:
            self.client.refresh()
        finally:
            self._see_online()
        check_root(self.client.root)
        check_targets(self.client.targets)
        self._see_top()
        self._tell_time(ask)
        recalls = {role: self._read_recalls(role) for role in RECALLERS}
        self.floors = rules.bury(self.floors, recalls["revocations"], recalls["stops"])
        for path, ids in _wishes(want, self.before.listed).items():
            self._look_up(path, ids)
        return self._state()

    def _tell_time(self, ask: Ask) -> None:
        """Judge what expires by the time that is told; so far only floors were asked."""
        now = max(ask(_signers(self.client.targets, "time")), self.floors.clock)
        self.client.set_time(now)
        for role, ends in self.expires.items():
            if ends <= now:
                raise ExpiredMetadataError(f"{role} has expired")

    def under_root(self, root: Root) -> int:
        """Take a verified root; return the least time that it is, Unix ms."""
        keys = {name: public_keys(role, root.keys) for name, role in root.roles.items()}
        self._refuse_older("root", root.version, self.floors.root)
        self.floors = rules.under_root(self.floors, root.version, keys, _expiry(root))
        return self.floors.clock

    def _see_online(self) -> None:
        """Note what timestamp and snapshot say, also where the rest cannot be had."""
        root = self.client.root
        keys = public_keys(root.roles["timestamp"], root.keys)
        timestamp = self.client.verified("timestamp")
        if isinstance(timestamp, Timestamp):
            self._see("timestamp", timestamp, keys)
            issued = timestamp.unrecognized_fields.get("x-issued")
            if isinstance(issued, int):
                self.floors = rules.dated(self.floors, issued, keys, _expiry(root))
        snapshot = self.client.verified("snapshot")
        if isinstance(snapshot, Snapshot):
            self._claim(snapshot)
            self._see("snapshot", snapshot, public_keys(root.roles["snapshot"], root.keys))

    def _claim(self, snapshot: Snapshot) -> None:
        named = {
            name.removesuffix(".json"): meta.version for name, meta in snapshot.meta.items()
        }
        for role, version in self.floors.claimed.items():
            self._refuse_older(f"the snapshot's {role}", named.get(role, 0), version)
        known = {*TOP, *(self._models(self.before.listed)), *self.floors.claimed}
        self.floors = rules.claim(
            self.floors, {role: named[role] for role in known if role in named}
        )

    def _models(self, paths: Collection[str]) -> set[str]:
        parts = [path.split("/") for path in paths]
        return {one[1] for one in parts} | {f"{one[1]}/{one[2]}" for one in parts}

    def _see_top(self) -> None:
        root, client = self.client.root, self.client
        self.seen["root"] = root.version
        self._see("targets", client.targets, public_keys(root.roles["targets"], root.keys))
        self.expires["timestamp"] = _expiry(client.timestamp)
        self.expires["snapshot"] = _expiry(client.snapshot)
        self.expires["targets"] = _expiry(client.targets)

    def _see(self, name: str, signed: Signed, keys: Collection[str]) -> None:
        """Refuse what is older than was seen, whatever python-tuf's cache says."""
        lowest = rules.below_keys(self.floors, name, keys)
        self._refuse_older(name, signed.version, lowest)
        self.floors = rules.see(self.floors, name, signed.version, keys)
        self.seen[name] = signed.version

    def _check_groups(self, name: str, above: Targets) -> None:
        """Of each group of approvers that the officers named one must have signed."""
        field = self.client.targets.unrecognized_fields.get("x-groups", [])
        groups = _read_field(field, list[list[str]], "x-groups")
        signers = self.client.signers(name, above) if groups else frozenset()
        for group in groups:
            if signers.isdisjoint(group):
                raise GroupError(
                    f"{name} lacks a signature of one of {len(group)} approvers"
                )

    def _see_delegated(self, name: str, role: Targets, above: Targets) -> None:
        delegations = above.delegations
        keys = delegations.keys if delegations else {}
        self._see(name, role, public_keys(above.get_delegated_role(name), keys))

    def _refuse_older(self, name: str, version: int, lowest: int) -> None:
        if version < lowest:
            raise FreezeError(f"{name} has version {version}; version {lowest} was seen")

    def _read_recalls(self, name: str) -> set[str]:
        """What a recalling role names; once expired, it only stops new installs."""
        self.expires[name] = 0
        try:
            role = self.client.load_role(name, "targets")
        except ExpiredMetadataError:
            log.warning("MF_METADATA %s has expired: nothing new is installed", name)
            return set()
        self._see_delegated(name, role, self.client.targets)
        self.expires[name] = _expiry(role)
        named, strange = names_of(name, role.targets)
        for path in strange:
            log.warning(
                "MF_METADATA %s names %s, which this agent does not understand", name, path
            )
        return named

    def _look_up(self, path: str, ids: Collection[str]) -> None:
        """List the release at `path`, or note why a wanted one is not listed.

        Only verified metadata changes what is listed: where a role does not verify, what
        was listed before stays so.
        """
        try:
            info = self._find(path)
            found = info.hashes.get("sha256", "") if info else None
            if info is not None and found in ids:
                self._keep_statement(info, path)
        except (RepositoryError, DownloadHTTPError) as error:
            log.warning("MF_METADATA %s: %s", path, error)
            self.problems.update(dict.fromkeys(ids, faults.code_of(error)))
            held = self.before.listed.get(path)
            if held is not None and not isinstance(error, StatementError):
                self.listed[path] = held
                self.problems.pop(held, None)
            return
        if found is not None and found in ids:
            self.listed[path] = found
        code = NOT_LISTED if found is None else MISMATCH
        self.problems.update({one: code for one in ids if one != found})

    def _find(self, path: str) -> TargetFile | None:
        """Return the target if the model's own role lists it; notes role and floor."""
        info = self.client.get_targetinfo(path)
        model = "/".join(path.split("/")[1:3])
        namespace = model.partition("/")[0]
        above = self.client.loaded(namespace, "targets")
        role = self.client.loaded(model, namespace)
        if above is None or role is None:
            return None
        check_delegations(namespace, above)
        self._check_groups(namespace, self.client.targets)
        self._check_groups(model, above)
        self._see_delegated(namespace, above, self.client.targets)
        self._see_delegated(model, role, above)
        self._read_floor(model, role)
        return info if info is not None and role.targets.get(path) == info else None

    def _read_floor(self, model: str, role: Targets) -> None:
        floor = role.unrecognized_fields.get("x-floor", "")
        try:
            if floor != "":
                Version(floor)
        except (ManifestError, TypeError) as error:
            raise DelegationError(f"{model} has a floor that is no version") from error
        self.floors = rules.raise_model(self.floors, model, floor, role.version)

    def _keep_statement(self, info: TargetFile, path: str) -> None:
        release_id = info.hashes["sha256"]
        file = release_file(self.folder, release_id)
        if file.exists() and sha256(file.read_bytes()) == release_id:
            return
        if info.length > MAX_RELEASE:
            raise StatementError(f"{path} has {info.length} bytes")
        data = self.client.fetch_target(info)
        try:
            release = read_release(data)
        except ManifestError as error:
            raise StatementError(f"{path}: {error}") from error
        if path != f"m/{release.model}/{release.version}/release.json":
            raise StatementError(f"{path} is of {release.model} {release.version}")
        fsio.private_dir(file.parent)
        fsio.write_atomic(file, data)

    def _state(self) -> TrustState:
        fields = self.client.targets.unrecognized_fields
        pardons, strange = read_pardons(fields.get("x-unrevoke", []))
        for one in strange:
            log.warning("MF_METADATA x-unrevoke names %s, which is no tombstone", one)
        return TrustState(
            fleet=self.before.fleet,
            seen=self.before.seen | self.seen,
            expires=self.expires,
            epoch=_read_field(fields.get("x-epoch", 0), int, "x-epoch"),
            director=[*_signers(self.client.targets, "director").keys.values()],
            slots=_read_field(fields.get("x-slots", {}), dict[str, list[Slot]], "x-slots"),
            floors={name: one.floor for name, one in self.floors.models.items()},
            pardons=pardons,
            timekeepers=sorted(_signers(self.client.targets, "time").keys.values()),
            recallers={role: _signers(self.client.targets, role) for role in RECALLERS},
            listed=self.listed,
            problems=self.problems,
        )


def _wishes(want: Collection[Wish], listed: Mapping[str, str]) -> dict[str, set[str]]:
    """What to look up: all that is wanted, and what was listed as far as there is room."""
    wishes: dict[str, set[str]] = {}
    for wish in want:
        wishes.setdefault(wish.path, set()).add(wish.id)
    room = max(MAX_LISTED - len(wishes), 0)
    for path, release_id in list(listed.items())[:room]:
        wishes.setdefault(path, set()).add(release_id)
    return wishes


def _signers(targets: Targets, name: str) -> Signers:
    role = targets.get_delegated_role(name)
    keys = {one: targets.get_key(one).keyval["public"] for one in role.keyids}
    return Signers(keys=keys, threshold=role.threshold)


def _expiry(signed: Signed) -> int:
    return int(signed.expires.timestamp()) * 1000


def _read_field(value: object, kind: Any, name: str) -> Any:  # noqa: ANN401 - msgspec's types
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise DelegationError(f"targets have a bad {name}: {error}") from error
