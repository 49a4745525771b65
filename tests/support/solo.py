"""A small fleet for tests of the agent: keys, a TUF repository and signed documents.

Everything is as real as on a server: python-tuf metadata, DSSE envelopes, Ed25519. What a
test changes (`permit`, `add_release`, `revoke`, …) counts after `publish`.

One file although it is long: keys, roles and documents of a fleet are one thing in tests.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET
from tests.support.solo_content import (
    Files,
    make_file,
    make_release,
    make_step,
    make_variant,
    random_id,
)
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from modelfleet_manifests.assignment import Assignment, ByGroup, Governor, Since
from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.deployment import Deployment, Left, SlotSteps, Step
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.document import write
from modelfleet_manifests.envelope import seal
from modelfleet_manifests.header import Header, Minimum
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.names import release_path
from modelfleet_manifests.release import Release, ReleaseRef, release_ref, write_release
from modelfleet_manifests.timetoken import seal_token, write_token
from modelfleet_manifests.tuf_keys import NaclSigner

__all__ = [
    "DAY",
    "NOW",
    "Files",
    "SoloFleet",
    "make_file",
    "make_release",
    "make_step",
    "make_variant",
    "random_id",
]

NOW = 1_800_000_000_000
DAY = 86_400_000
TOP = ("root", "targets", "snapshot", "timestamp")
OWN = (*TOP, "revocations", "stops", "director", "time", "approver")


class SoloFleet:
    """Keys, roles and documents of one fleet.

    `now` (Unix ms) is when things are signed, and what time is told unless `tells` says
    otherwise.
    """

    def __init__(self, *, now: int = NOW) -> None:
        """Make the keys and publish version 1 of everything."""
        self.now = now
        self.tells: Callable[[], int] = lambda: self.now
        self.files = Files()
        self.keys = {role: PrivateKey.generate() for role in OWN}
        self.signers: dict[str, list[PrivateKey]] = {}
        self.roles: dict[str, Signed] = {}
        self.epoch = 1
        self.counter = now
        self._parents: dict[str, str] = {}
        self._begin()
        self.publish()
        self.id = sha256(self.files.metadata["1.root.json"])

    @property
    def root(self) -> bytes:
        """The first root: what a device gets at enrolment."""
        return self.files.metadata["1.root.json"]

    @property
    def targets(self) -> Targets:
        """The top-level targets that are being edited."""
        role = self.roles["targets"]
        assert isinstance(role, Targets)
        return role

    def role(self, name: str) -> Targets:
        """Return a delegated role that is being edited."""
        role = self.roles[name]
        assert isinstance(role, Targets)
        return role

    def _begin(self) -> None:
        root = Root(version=1, expires=self._in_days(730), consistent_snapshot=True)
        for name in TOP:
            root.add_key(NaclSigner(self.keys[name]).public_key, name)
        self.roles["root"] = root
        self.roles["targets"] = self._unpublished(
            Targets(
                expires=self._in_days(365),
                delegations=Delegations({}, {}),
                unrecognized_fields={"x-epoch": 1, "x-slots": {}},
            )
        )
        self.roles["snapshot"] = self._unpublished(Snapshot(expires=self._in_days(14)))
        self.roles["timestamp"] = self._unpublished(Timestamp(expires=self._in_days(14)))
        for name, paths in (
            ("revocations", ["tombstone/block/*/*"]),
            ("stops", ["tombstone/stop/*/*"]),
            ("director", []),
            ("time", []),
        ):
            self.delegate("targets", name, [self.keys[name]], paths)
        for name in ("revocations", "stops"):
            self.roles[name] = self._unpublished(Targets(expires=self._in_days(35)))

    def _in_days(self, days: int) -> datetime:
        return datetime.fromtimestamp((self.now + days * DAY) // 1000, UTC)

    # metadata

    def delegate(
        self,
        parent: str,
        name: str,
        keys: Sequence[PrivateKey],
        paths: Sequence[str],
        *,
        threshold: int = 1,
    ) -> None:
        """Let `keys` sign the role `name`, replacing an earlier delegation of it."""
        above = self.role(parent)
        if above.delegations is None:
            above.delegations = Delegations({}, {})
        assert above.delegations.roles is not None
        above.delegations.roles[name] = DelegatedRole(
            name, [], threshold, terminating=True, paths=list(paths)
        )
        for key in keys:
            above.add_key(NaclSigner(key).public_key, name)
        self.signers[name] = list(keys)
        self._parents[name] = parent

    def permit(self, slot: str, release: Release) -> None:
        """Let `slot` hold the release's model with its schema."""
        slots: dict[str, Any] = self.targets.unrecognized_fields["x-slots"]
        rule = {"model": release.model, "schema": release.schema.digest}
        if rule not in slots.setdefault(slot, []):
            slots[slot].append(rule)

    def add_release(self, release: Release, *, slot: str | None = "main") -> ReleaseRef:
        """List a release, and let `slot` hold it."""
        data = write_release(release)
        path = release_path(release.model, release.version)
        role = self._model_role(release.model)
        role.targets[path] = TargetFile(len(data), {"sha256": sha256(data)}, path)
        folder, _, name = path.rpartition("/")
        self.files.targets[f"{folder}/{sha256(data)}.{name}"] = data
        if slot is not None:
            self.permit(slot, release)
        return release_ref(release)

    def drop_release(self, release: Release) -> None:
        """Take a release off the list."""
        role = self.role(release.model)
        del role.targets[release_path(release.model, release.version)]

    def set_floor(self, model: str, version: str | None) -> None:
        """Set the lowest version of a model, or take the floor away."""
        role = self._model_role(model)
        role.unrecognized_fields.pop("x-floor", None)
        if version is not None:
            role.unrecognized_fields["x-floor"] = version

    def _model_role(self, model: str) -> Targets:
        namespace = model.partition("/")[0]
        for parent, name, model_glob in (
            ("targets", namespace, f"{namespace}/*"),
            (namespace, model, model),
        ):
            if name not in self.roles:
                self.delegate(
                    parent, name, [self.keys["approver"]], [release_path(model_glob, "*")]
                )
                self.roles[name] = self._unpublished(Targets(expires=self._in_days(365)))
        return self.role(model)

    def revoke(self, name: str, *, kind: str = "release", reason: str = "bad") -> None:
        """Block a release id (or `kind="digest"`) from being installed."""
        self._bury("revocations", f"tombstone/block/{kind}/{name}", reason)

    def stop(self, name: str, *, kind: str = "release", reason: str = "bad") -> None:
        """Stop a release id (or `kind="digest"`) from running."""
        self._bury("stops", f"tombstone/stop/{kind}/{name}", reason)

    def _bury(self, role: str, path: str, reason: str) -> None:
        self.role(role).targets[path] = TargetFile(
            0, {"sha256": sha256(b"")}, path, {"custom": {"reason": reason}}
        )

    def rotate_director(self) -> None:
        """Replace the director's key and raise the epoch."""
        self.keys["director"] = PrivateKey.generate()
        self.delegate("targets", "director", [self.keys["director"]], [])
        self.epoch += 1
        self.targets.unrecognized_fields["x-epoch"] = self.epoch

    def rotate_online(self) -> None:
        """Replace the snapshot and timestamp keys in a new root; versions begin again."""
        root = self.roles["root"]
        assert isinstance(root, Root)
        for name in ("snapshot", "timestamp"):
            for key_id in list(root.roles[name].keyids):
                root.revoke_key(key_id, name)
            self.keys[name] = PrivateKey.generate()
            root.add_key(NaclSigner(self.keys[name]).public_key, name)
            self.roles[name].version = 0
        root.version += 1

    def _unpublished(self, role: Signed) -> Signed:
        role.version = 0  # python-tuf makes none; `publish` adds one
        return role

    def sign(self, name: str) -> bytes:
        """Return the file of a role as it stands now."""
        metadata: Metadata[Any] = Metadata(self.roles[name])
        for key in self.signers.get(name) or [self.keys[name]]:
            metadata.sign(NaclSigner(key), append=True)
        return metadata.to_bytes()

    def publish(self, *, only: Sequence[str] | None = None) -> None:
        """Sign all roles (or `only` these delegated ones), then snapshot and timestamp."""
        root = self.roles["root"]
        self.files.metadata[f"{root.version}.root.json"] = self.sign("root")
        snapshot, timestamp = self.roles["snapshot"], self.roles["timestamp"]
        assert isinstance(snapshot, Snapshot)
        assert isinstance(timestamp, Timestamp)
        for name in self.roles if only is None else only:
            if name not in ("root", "snapshot", "timestamp"):
                self._publish_role(name)
                snapshot.meta[f"{name}.json"] = MetaFile(self.roles[name].version)
        data = self._publish_role("snapshot")
        timestamp.version += 1
        timestamp.unrecognized_fields["x-issued"] = self.now
        timestamp.snapshot_meta = MetaFile(
            snapshot.version, len(data), {"sha256": sha256(data)}
        )
        self.files.metadata["timestamp.json"] = self.sign("timestamp")

    def _publish_role(self, name: str) -> bytes:
        role = self.roles[name]
        role.version += 1
        data = self.sign(name)
        self.files.metadata[f"{role.version}.{name}.json"] = data
        return data

    def renew(self) -> None:
        """Give everything but the root a new life from `now`, and publish."""
        for name, role in self.roles.items():
            days = {"snapshot": 14, "timestamp": 14, "revocations": 35, "stops": 35}
            if name != "root":
                role.expires = self._in_days(days.get(name, 365))
        self.publish()

    def time_token(self, nonce: str) -> bytes:
        """Return the signed answer to a question for the time, as `tells` has it."""
        payload = write_token(self.id, nonce, self.tells())
        return seal_token(payload, [self.keys["time"]])

    def recalls(self) -> bytes:
        """Return a `trust/recalls` message with the roles as they stand now."""
        return canonical(
            {
                name: base64.b64encode(self.sign(name)).decode()
                for name in ("revocations", "stops")
            }
        )

    # documents

    def header(
        self,
        kind: str,
        *,
        group: str | None = None,
        device: str | None = None,
        enrolment: str | None = None,
        **changes: Any,
    ) -> Header:
        """Return the next header; `changes` replace its fields."""
        self.counter += 1
        where: dict[str, Any] = {"group": group, "device": device, "enrolment": enrolment}
        fields: dict[str, Any] = {
            "type": kind,
            "v": 0,
            "needs": [],
            "fleet": self.id,
            "epoch": self.epoch,
            "counter": self.counter,
            "issued": self.now,
            "expires": self.now + 30 * DAY,
            "min": Minimum(),
            **{name: value for name, value in where.items() if value is not None},
        }
        return Header(**(fields | changes))

    def assignment(
        self,
        device: str,
        enrolment: str,
        slots: Mapping[str, Governor | str],
        *,
        labels: Mapping[str, str] | None = None,
        key: PrivateKey | None = None,
        echo: str = "",
        **changes: Any,
    ) -> bytes:
        """Return a signed assignment.

        Args:
            device: Id.
            enrolment: Its enrolment id.
            slots: A governor per slot; a text is the id of the group that governs it.
            labels: Of the device.
            key: Signs instead of the director.
            echo: The challenge that it repeats.
            changes: Fields of the header.
        """
        governors: dict[str, Governor] = {
            name: ByGroup(group=one, since=Since(epoch=0, counter=0))
            if isinstance(one, str)
            else one
            for name, one in slots.items()
        }
        body = Assignment(
            header=self.header("assignment", device=device, enrolment=enrolment, **changes),
            slots=governors,
            labels=dict(labels or {}),
            incarnation=1,
            report_key="5" * 64,
            nonce=random_id(),
            echo=echo or UNSET,
        )
        return seal("assignment", write(body), [key or self.keys["director"]])

    def deployment(
        self,
        group: str,
        slots: Mapping[str, Sequence[Step]],
        *,
        left: Sequence[Left] = (),
        key: PrivateKey | None = None,
        **changes: Any,
    ) -> bytes:
        """Return a signed deployment; `slots` gives the steps of each, newest first."""
        body = Deployment(
            header=self.header("deployment", group=group, **changes),
            slots={name: SlotSteps(steps=list(steps)) for name, steps in slots.items()},
            left=list(left),
        )
        return seal("deployment", write(body), [key or self.keys["director"]])
