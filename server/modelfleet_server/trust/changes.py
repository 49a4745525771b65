"""What a role's next metadata changes, in words; and what must never be signed. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET
from tuf.api.metadata import Root, Targets

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.names import check_name, release_path, split_model
from modelfleet_manifests.recalls import Tombstone, read_range, read_tombstone
from modelfleet_manifests.release import Release, read_release
from modelfleet_manifests.semver import Version
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust import delegations
from modelfleet_server.trust.delegations import (
    GROUPS,
    NAMESPACES,
    WAIVERS,
    KeySet,
)
from modelfleet_server.trust.repository import (
    EPOCH,
    FLOOR,
    SLOTS,
    UNREVOKE,
)

OFFICERS_ONLY = {EPOCH, SLOTS, NAMESPACES, GROUPS, UNREVOKE, WAIVERS}
KNOWN = {FLOOR, *OFFICERS_ONLY}
TOP = ("root", "targets", "snapshot", "timestamp")
SHORT = 12


class RefusedError(InvalidError):
    """What must not be signed, whoever asks."""

    code = "proposal-refused"


def describe_role(
    role: str, old: Targets | None, new: Targets, files: Mapping[str, bytes]
) -> list[str]:
    """Return the changes of one role, a sentence each.

    Args:
        role: Its name.
        old: In force and verified; None where the role is new.
        new: Proposed.
        files: The new target files by path.

    Raises:
        RefusedError: A wrong version, a field that is not known, a release that is not what
            its path says, a tombstone dropped, an online key that may sign targets.
    """
    _check_shape(role, old, new)
    base = old if old is not None else Targets()
    lines = [
        *_fields(role, base, new),
        *_delegations(role, base, new),
        *_targets(role, base, new, files),
    ]
    if not lines:
        lines.append(f"Renews {role}: same content, until {new.expires:%Y-%m-%d}.")
    return lines


def describe_root(old: Root, new: Root) -> list[str]:
    """Return the changes of the root, a sentence each.

    Raises:
        RefusedError: A wrong version, a field that is not known, keys that would count
            twice, or no consistent snapshots.
    """
    if new.version != old.version + 1:
        raise RefusedError(f"root is version {new.version}, and {old.version + 1} is next")
    if new.unrecognized_fields or not new.consistent_snapshot or set(new.roles) != set(TOP):
        raise RefusedError("the root has something that is not understood")
    lines = []
    for role in TOP:
        keys = _keys(new, role)
        if keys != _keys(old, role):
            words = f"{keys.threshold} of the keys {', '.join(_short(keys))}"
            lines.append(f"CHANGES who signs {role} to {words}.")
    return lines or [f"Renews root: same keys, until {new.expires:%Y-%m-%d}."]


def _check_shape(role: str, old: Targets | None, new: Targets) -> None:
    expected = (old.version if old is not None else 0) + 1
    if new.version != expected:
        raise RefusedError(f"{role} is version {new.version}, and {expected} is next")
    known = KNOWN if role == "targets" else KNOWN - OFFICERS_ONLY
    strange = sorted(set(new.unrecognized_fields) - known)
    if strange:
        raise RefusedError(f"{role} has the field {strange[0]!r}, which is not known")


def _fields(role: str, old: Targets, new: Targets) -> Iterator[str]:
    before, after = old.unrecognized_fields, new.unrecognized_fields
    if before.get(EPOCH) != after.get(EPOCH):
        yield f"CHANGES the director's epoch to {after.get(EPOCH)}."
    if before.get(NAMESPACES) != after.get(NAMESPACES):
        yield f"CHANGES who approves in new namespaces to {after.get(NAMESPACES)}."
    if before.get(GROUPS, []) != after.get(GROUPS, []):
        yield f"CHANGES the groups of approvers to {after.get(GROUPS, [])}."
    if before.get(WAIVERS, []) != after.get(WAIVERS, []):
        keys = [PublicKey(key).fingerprint[:SHORT] for key in after.get(WAIVERS, [])]
        yield f"CHANGES the group build-waiver to {', '.join(keys) or 'all approvers'}."
    yield from _pardons(before.get(UNREVOKE, []), after.get(UNREVOKE, []))
    yield from _floor(role, before.get(FLOOR), after.get(FLOOR))
    yield from _slots(before.get(SLOTS, {}), after.get(SLOTS, {}))


def _floor(role: str, before: str | None, after: str | None) -> Iterator[str]:
    if before == after:
        return
    if after is None or (before is not None and Version(after) < Version(before)):
        yield f"LOWERS the floor of {role} from {before} to {after or 'none'}."
    else:
        yield f"Raises the floor of {role} from {before or 'none'} to {after}."


def _pardons(before: list[str], after: list[str]) -> Iterator[str]:
    for path in after:
        _read_tombstone(path, UNREVOKE)
        if path not in before:
            yield f"ALLOWS AGAIN what {path} forbids."
    for path in before:
        if path not in after:
            yield f"Lets {path} count again."


Rules = Mapping[str, list[dict[str, str]]]


def _slots(before: Rules, after: Rules) -> Iterator[str]:
    for slot in sorted({*before, *after}):
        had, has = before.get(slot, []), after.get(slot, [])
        for rule in (one for one in has if one not in had):
            yield (
                f"Lets the slot {slot} hold {rule['model']}"
                f" with schema {rule['schema'][:SHORT]}…."
            )
        for rule in (one for one in had if one not in has):
            yield f"FORBIDS the slot {slot} to hold {rule['model']}."


def _delegations(role: str, old: Targets, new: Targets) -> Iterator[str]:
    before, after = _roles(old), _roles(new)
    for name in sorted({*before, *after}):
        if name not in after:
            yield f"REMOVES the role {name} with all that it signed."
            continue
        keys = _keys(new, name)
        _check_paths(role, name, after[name])
        words = f"{keys.threshold} of the keys {', '.join(_short(keys))}"
        if name not in before:
            yield f"Adds {name}, signed by {words}."
        elif _keys(old, name) != keys:
            yield f"CHANGES who signs {name} to {words}."


def _roles(targets: Targets) -> dict[str, Any]:
    delegations = targets.delegations
    return {} if delegations is None else dict(delegations.roles or {})


def _keys(targets: Root | Targets, name: str) -> KeySet:
    try:
        return delegations.keys_of(targets, name)
    except (ValueError, KeyError, ManifestError) as error:
        raise RefusedError(f"the keys of {name} are not well-formed ({error})") from None


def _check_paths(role: str, name: str, found: Any) -> None:  # noqa: ANN401 a TUF role
    if name in delegations.ONLINE_ROLES:
        allowed: list[str] = []
    elif name in delegations.RECALL_PATHS:
        allowed = [delegations.RECALL_PATHS[name]]
    else:
        allowed = [_release_paths(role, name)]
    if found.paths != allowed or not found.terminating:
        raise RefusedError(f"{role} lets {name} sign {found.paths}, and not {allowed}")


def _release_paths(role: str, name: str) -> str:
    # names are checked first: a wildcard in one would reach beyond it
    try:
        if role == "targets":
            return release_path(f"{check_name(name, 'namespace')}/*", "*")
        if split_model(name)[0] == role:
            return release_path(name, "*")
    except ManifestError as error:
        raise RefusedError(f"{role} delegates {name!r} ({error})") from None
    raise RefusedError(f"{role} delegates {name}, which is of another namespace")


def _short(keys: KeySet) -> list[str]:
    return [f"{key.fingerprint[:SHORT]}…" for key in keys.keys]


def _targets(
    role: str, old: Targets, new: Targets, files: Mapping[str, bytes]
) -> Iterator[str]:
    for path in sorted({*old.targets, *new.targets}):
        before, after = old.targets.get(path), new.targets.get(path)
        if before == after:
            continue
        if after is None:
            if role in delegations.RECALL_PATHS:
                raise RefusedError(f"{role} drops {path}: what is recalled stays recalled")
            yield f"REMOVES {path}."
        elif before is not None:
            raise RefusedError(f"{role} changes {path}: what was signed never changes")
        elif role in delegations.RECALL_PATHS:
            yield _tombstone(role, path, after.custom)
        else:
            yield from _release(role, path, after.hashes.get("sha256"), files.get(path))


def _tombstone(role: str, path: str, custom: object) -> str:
    found = _read_tombstone(path, role)
    reason = custom.get("reason") if isinstance(custom, dict) else None
    if found.role != role or not isinstance(reason, str) or not reason.isprintable():
        raise RefusedError(f"{role} lists {path!r}, which is no tombstone")
    effect = "Blocks installing" if role == "revocations" else "STOPS running"
    what = f"the {found.kind} {found.name}"
    if found.kind == "range":
        what = f"ALL VERSIONS {read_range(found.name)}, also those that are yet to come"
    return f"{effect} {what}: {reason}"


def _read_tombstone(path: str, where: str) -> Tombstone:
    try:
        return read_tombstone(path)
    except ManifestError as error:
        raise RefusedError(f"{where} lists {path!r}, which is no tombstone") from error


def _release(role: str, path: str, digest: str | None, data: bytes | None) -> Iterator[str]:
    if data is None or sha256(data) != digest:
        raise RefusedError(f"the bytes of {path} are not those that {role} lists")
    try:
        release = read_release(data)
        split_model(release.model)
    except ManifestError as error:
        raise RefusedError(f"{path} is not a release ({error})") from None
    if path != release_path(release.model, release.version) or role != release.model:
        raise RefusedError(f"{path} in {role} is {release.model} {release.version}")
    yield f"Adds release {release.model} {release.version}, id {digest}."
    yield from _details(release)


def _details(release: Release) -> Iterator[str]:
    yield f"  master {release.master.digest}, lineage {release.lineage}"
    back = ", ".join(release.rollback_to) or "none"
    yield f"  devices may return from it to: {back}"
    for variant in release.variants:
        size = sum(file.length for file in variant.files)
        metrics = ", ".join(f"{k} {v}" for k, v in sorted(variant.metrics.items()))
        yield (
            f"  variant {variant.name} for {variant.profile}: {size} bytes,"
            f" {metrics or 'not measured'}, {variant.vouched}"
        )
        if variant.waiver is not UNSET:
            yield (
                f"    outside of its budget; {variant.waiver.by} let it pass:"
                f" {variant.waiver.reason}"
            )
