"""Composes the roles' next metadata with python-tuf; pure.

Nothing here signs or stores. What is composed is the *signed part* of a role; `payload_of`
gives the canonical bytes that are signed, `parse_signed` reads them back.

Beside what TUF knows, the top-level targets carry fields of ours: `x-epoch` (the director
key's generation), `x-slots` (which model and schema a slot may hold), `x-namespaces` (who
approves in a namespace that is not there yet), `x-groups` (of each of these groups of
approvers one must sign), `x-build-waiver` (of these one must sign a release with a waived
variant) and `x-unrevoke` (tombstones that do not count any more). A model's role may carry
`x-floor`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from securesystemslib.signer import Signature
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.errors import FormatError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.names import release_path
from modelfleet_manifests.recalls import ACTIONS
from modelfleet_manifests.tuf_keys import NaclKey

DAY_MS = 86_400_000
LIFE_DAYS = {
    "root": 730,
    "targets": 365,
    "revocations": 35,
    "stops": 35,
    "snapshot": 14,
    "timestamp": 14,
}
NAMESPACE_DAYS = 365
ONLINE_ROLES = ("director", "time")
RECALL_PATHS = {role: f"tombstone/{action}/*/*" for role, action in ACTIONS.items()}
EPOCH, SLOTS, NAMESPACES, FLOOR = "x-epoch", "x-slots", "x-namespaces", "x-floor"
UNREVOKE, GROUPS = "x-unrevoke", "x-groups"
WAIVERS = "x-build-waiver"

S = TypeVar("S", bound=Signed)


@dataclass(frozen=True, slots=True)
class KeySet:
    """Who signs a role, and how many of them.

    Raises:
        ValueError: A key is named twice, or more signatures are asked for than there are
            keys.
    """

    keys: tuple[PublicKey, ...]
    threshold: int = 1

    def __post_init__(self) -> None:
        if len({key.hex for key in self.keys}) != len(self.keys):
            raise ValueError("a key is named twice: it would count twice")
        if not 1 <= self.threshold <= len(self.keys):
            raise ValueError(f"{self.threshold} of {len(self.keys)} keys cannot sign")


def expires_at(role: str, now_ms: int) -> datetime:
    """Return when metadata of `role` that is made now expires."""
    days = LIFE_DAYS.get(role, NAMESPACE_DAYS)
    return datetime.fromtimestamp((now_ms + days * DAY_MS) // 1000, UTC)


def payload_of(signed: Signed) -> bytes:
    """Return the canonical bytes that are signed.

    Raises:
        FormatError: A field holds something that canonical JSON does not have.
    """
    return canonical(signed.to_dict())


def parse_signed(payload: bytes) -> Signed:
    """Return the signed part of metadata from its canonical bytes.

    Raises:
        FormatError: It is no TUF metadata.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_dict(
            {"signed": json.loads(payload), "signatures": []}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError("metadata", f"is not that of TUF ({error!r})") from None
    signed: Signed = metadata.signed
    return signed


def parse_targets(payload: bytes) -> Targets:
    """Return a targets role from its canonical bytes.

    Raises:
        FormatError: It is none.
    """
    signed = parse_signed(payload)
    if not isinstance(signed, Targets):
        raise FormatError("metadata", f"is of type {signed.type}, not of targets")
    return signed


def assemble(payload: bytes, signatures: Mapping[str, str]) -> bytes:
    """Return the file of a role: its signed part and the signatures by key id."""
    metadata: Metadata[Any] = Metadata(
        parse_signed(payload),
        {key_id: Signature(key_id, text) for key_id, text in sorted(signatures.items())},
    )
    return metadata.to_bytes()


def read_file(data: bytes) -> Metadata[Any]:
    """Return the metadata in a role's file."""
    return Metadata.from_bytes(data)


def advance(signed: S, role: str, now_ms: int) -> S:
    """Return a copy with the next version and a new life."""
    # through bytes: `to_dict` would share the fields that TUF does not know
    copy: S = parse_signed(payload_of(signed))  # type: ignore[assignment]
    copy.version += 1
    copy.expires = expires_at(role, now_ms)
    return copy


def make_root(roles: Mapping[str, KeySet], now_ms: int) -> Root:
    """Return the first root for the keys of the four top-level roles."""
    root = Root(version=1, expires=expires_at("root", now_ms), consistent_snapshot=True)
    for role, keys in roles.items():
        for key in keys.keys:
            root.add_key(NaclKey.from_public(key), role)
        root.roles[role].threshold = keys.threshold
    return root


def make_targets(roles: Mapping[str, KeySet], namespaces: KeySet, now_ms: int) -> Targets:
    """Return the first top-level targets.

    Args:
        roles: Keys of `revocations`, `stops`, `director` and `time`.
        namespaces: Who approves in namespaces that come later.
        now_ms: Unix milliseconds.
    """
    targets = Targets(
        version=1,
        expires=expires_at("targets", now_ms),
        delegations=Delegations({}, {}),
        unrecognized_fields={
            EPOCH: 1,
            SLOTS: {},
            NAMESPACES: {
                "keys": [key.hex for key in namespaces.keys],
                "threshold": namespaces.threshold,
            },
        },
    )
    for role, path in RECALL_PATHS.items():
        delegate(targets, role, roles[role], [path])
    for role in ONLINE_ROLES:
        # no paths: their keys sign single documents, never a target
        delegate(targets, role, roles[role], [])
    return targets


def make_empty(role: str, now_ms: int) -> Targets:
    """Return the first version of a delegated role that lists nothing yet."""
    return Targets(version=1, expires=expires_at(role, now_ms))


def namespace_keys(targets: Targets) -> KeySet:
    """Return who approves in a namespace that is not there yet, as the officers signed."""
    field = targets.unrecognized_fields[NAMESPACES]
    return KeySet(tuple(PublicKey(text) for text in field["keys"]), field["threshold"])


def keys_of(delegator: Root | Targets, role: str) -> KeySet:
    """Return who signs a delegated role."""
    found = delegator.get_delegated_role(role)
    keys = [delegator.get_key(key_id).keyval["public"] for key_id in found.keyids]
    return KeySet(tuple(PublicKey(text) for text in keys), found.threshold)


def is_delegated(delegator: Targets, role: str) -> bool:
    """Say whether `delegator` delegates `role`."""
    return delegator.delegations is not None and role in (delegator.delegations.roles or {})


def delegate(delegator: Targets, role: str, keys: KeySet, paths: Sequence[str]) -> None:
    """Add a terminating delegation, in place."""
    if delegator.delegations is None:
        delegator.delegations = Delegations({}, {})
    roles = delegator.delegations.roles
    if roles is None:
        raise ValueError("hash bins are not used here")
    roles[role] = DelegatedRole(
        role, [], keys.threshold, terminating=True, paths=list(paths)
    )
    for key in keys.keys:
        delegator.add_key(NaclKey.from_public(key), role)


def delegate_namespace(targets: Targets, namespace: str, keys: KeySet) -> None:
    """Let `keys` say which models are in a namespace, in place."""
    delegate(targets, namespace, keys, [release_path(f"{namespace}/*", "*")])


def delegate_model(namespace: Targets, model: str, keys: KeySet) -> None:
    """Let `keys` sign the releases of a model, in place."""
    delegate(namespace, model, keys, [release_path(model, "*")])


def add_slot_rule(targets: Targets, slot: str, model: str, schema: str) -> bool:
    """Let a slot hold a model with this schema, in place; say whether that was new."""
    slots: dict[str, list[dict[str, str]]] = targets.unrecognized_fields.setdefault(
        SLOTS, {}
    )
    rule = {"model": model, "schema": schema}
    if rule in slots.get(slot, []):
        return False
    slots.setdefault(slot, []).append(rule)
    return True


def add_target(
    role: Targets, path: str, data: bytes, custom: Mapping[str, str] | None = None
) -> None:
    """List a target, in place."""
    extra = {"custom": dict(custom)} if custom else None
    role.targets[path] = TargetFile(len(data), {"sha256": sha256(data)}, path, extra)


def make_snapshot(
    previous: Snapshot | None, roles: Mapping[str, int], now_ms: int
) -> Snapshot:
    """Return the snapshot that names these versions, and keeps the others' as they were."""
    if previous is None:
        snapshot = Snapshot(version=1, expires=expires_at("snapshot", now_ms))
    else:
        snapshot = advance(previous, "snapshot", now_ms)
    for role, version in roles.items():
        snapshot.meta[f"{role}.json"] = MetaFile(version)
    return snapshot


def make_timestamp(previous: Timestamp | None, snapshot: bytes, now_ms: int) -> Timestamp:
    """Return the timestamp that names a snapshot by version, length and SHA-256."""
    if previous is None:
        timestamp = Timestamp(version=1, expires=expires_at("timestamp", now_ms))
    else:
        timestamp = advance(previous, "timestamp", now_ms)
    timestamp.unrecognized_fields["x-issued"] = now_ms
    timestamp.snapshot_meta = MetaFile(
        read_file(snapshot).signed.version, len(snapshot), {"sha256": sha256(snapshot)}
    )
    return timestamp


def missing_signers(
    delegator: Root | Targets,
    role: str,
    payload: bytes,
    signatures: Mapping[str, str],
    groups: Sequence[Collection[str]] = (),
) -> int:
    """Return how many more different keys must sign `payload`; 0 when it is enough.

    python-tuf counts key ids; here a public key counts once, under however many ids. Of
    each of `groups` (public keys) one must be among the signers.

    Raises:
        ValueError: `role` is not delegated by `delegator`.
    """
    result = delegator.get_verification_result(
        role, payload, {key: Signature(key, text) for key, text in signatures.items()}
    )
    signers = {key.keyval["public"] for key in result.signed.values()}
    lacking = sum(1 for group in groups if signers.isdisjoint(group))
    return max(0, result.threshold - len(signers), lacking)


def groups_of(targets: Targets, role: str) -> list[list[str]]:
    """Return the groups of which one key each must sign `role`: for approvers only."""
    if not groups_apply(targets, role):
        return []
    return [list(group) for group in targets.unrecognized_fields.get(GROUPS, [])]


def waivers_of(targets: Targets) -> list[str]:
    """Return the group `build-waiver`: who lets pass what was not reproduced."""
    return [str(key) for key in targets.unrecognized_fields.get(WAIVERS, [])]


def groups_apply(targets: Targets, role: str) -> bool:
    """Say whether approvers sign `role`: a namespace, or a model in one."""
    return "/" in role or is_namespace(targets, role)


def is_namespace(targets: Targets, role: str) -> bool:
    """Say whether `role` is a namespace that the officers delegate."""
    own = {*RECALL_PATHS, *ONLINE_ROLES}
    return role not in own and is_delegated(targets, role)


def set_keys(delegator: Root | Targets, role: str, keys: KeySet) -> None:
    """Let other keys sign a role that is delegated already, in place."""
    found = delegator.get_delegated_role(role)
    for key_id in list(found.keyids):
        delegator.revoke_key(key_id, role)
    for key in keys.keys:
        delegator.add_key(NaclKey.from_public(key), role)
    found.threshold = keys.threshold


def delegated_role(delegator: Root | Targets, role: str) -> Role:
    """Return key ids and threshold of a role.

    Raises:
        ValueError: It is not delegated by `delegator`.
    """
    return delegator.get_delegated_role(role)


def delegator_of(role: str) -> str | None:
    """Return the name of the role that says who signs `role`; None for a root."""
    if role == "root":
        return None
    if role in {"targets", "snapshot", "timestamp"}:
        return "root"
    return role.rpartition("/")[0] or "targets"
