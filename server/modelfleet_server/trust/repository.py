"""Composes the roles' next metadata with python-tuf; pure.

Nothing here signs or stores. Beside what TUF knows, the top-level targets carry fields of
ours: `x-epoch` (the director key's generation), `x-slots` (which model and schema a slot
may hold), `x-unrevoke` (tombstones that do not count any more), and those of `delegations`.
A model's role may carry `x-floor`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypeVar

from tuf.api.metadata import (
    Delegations,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.tuf_keys import NaclKey
from modelfleet_server.trust.delegations import (
    NAMESPACES,
    ONLINE_ROLES,
    RECALL_PATHS,
    KeySet,
    delegate,
)
from modelfleet_server.trust.rolefile import parse_signed, payload_of, read_file

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
EPOCH, SLOTS, FLOOR, UNREVOKE = "x-epoch", "x-slots", "x-floor", "x-unrevoke"

S = TypeVar("S", bound=Signed)


def expires_at(role: str, now_ms: int) -> datetime:
    """Return when metadata of `role` that is made now expires."""
    days = LIFE_DAYS.get(role, NAMESPACE_DAYS)
    return datetime.fromtimestamp((now_ms + days * DAY_MS) // 1000, UTC)


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
