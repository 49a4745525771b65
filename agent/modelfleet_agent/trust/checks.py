"""What python-tuf accepts and this agent does not. Runs in the child."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Role, Root, Targets

from modelfleet_manifests.canonical import MAX_DEPTH, MAX_INTEGER, parse
from modelfleet_manifests.errors import ManifestError

ONLINE = ("director", "time")
RECALLERS = ("revocations", "stops")


class StrictError(RepositoryError):
    """Not the JSON that metadata may be."""


class DuplicateKeyError(RepositoryError):
    """One public key stands in a role under two key ids: it would count twice."""


class FreezeError(RepositoryError):
    """Older than what this device has seen: somebody keeps news from it."""


class GroupError(RepositoryError):
    """Enough approvers signed, but none of a group of which one must."""


class DelegationError(RepositoryError):
    """The top-level targets delegate something that they must not, or lack a role."""


def check_json(data: bytes, name: str) -> None:
    """Return if `data` is JSON that every parser reads alike.

    Raises:
        StrictError: Not UTF-8 JSON, a key twice, a float, NaN, a huge integer, or nested
            deeper than 32.
    """
    with suppress(ManifestError):  # what our server writes: one encoding, quickly checked
        parse(data, what=name, cap=len(data))
        return

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in items}) != len(items):
            raise StrictError(f"{name} has a key twice")
        return dict(items)

    def refuse(text: str) -> NoReturn:
        raise StrictError(f"{name} holds the number {text}")

    def whole(text: str) -> int:
        return int(text) if len(text) <= len(str(MAX_INTEGER)) else refuse(text)

    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=pairs,
            parse_float=refuse,
            parse_constant=refuse,
            parse_int=whole,
        )
    except RecursionError:
        raise StrictError(f"{name} is nested too deep") from None
    except ValueError as error:
        raise StrictError(f"{name} is not JSON ({error})") from None
    _check_depth(value, name, 0)


def _check_depth(value: object, name: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise StrictError(f"{name} is nested deeper than {MAX_DEPTH}")
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    for item in inner:
        _check_depth(item, name, depth + 1)


def check_root(root: Root) -> None:
    """Return if no role of `root` counts a key twice.

    Raises:
        DuplicateKeyError: One does.
    """
    for name, role in root.roles.items():
        _check_unique(name, role, root.keys)


def check_delegations(name: str, targets: Targets) -> None:
    """Return if the delegations of a role are of the kind that is used here.

    Raises:
        DuplicateKeyError: A delegated role counts a key twice.
        DelegationError: They are hash bins.
    """
    if targets.delegations is None:
        return
    if targets.delegations.roles is None:
        raise DelegationError(f"{name} delegates to hash bins")
    for delegate, role in targets.delegations.roles.items():
        _check_unique(delegate, role, targets.delegations.keys)


def check_targets(targets: Targets) -> None:
    """Return if the top-level targets delegate as they must.

    The keys of `director` and `time` are online: with a path they could list releases.

    Raises:
        DuplicateKeyError: A delegated role counts a key twice.
        DelegationError: `director` or `time` is missing or has paths, or `revocations` or
            `stops` is missing.
    """
    check_delegations("targets", targets)
    roles = (targets.delegations.roles if targets.delegations else None) or {}
    for name in (*ONLINE, *RECALLERS):
        if name not in roles:
            raise DelegationError(f"targets do not delegate {name}")
    for name in ONLINE:
        role = roles[name]
        if role.paths != [] or role.path_hash_prefixes:
            raise DelegationError(f"targets give paths to {name}, which signs online")


def public_keys(role: Role, keys: Mapping[str, Key]) -> frozenset[str]:
    """Return the public keys of a role, in lower-case hexadecimal digits."""
    return frozenset(
        str(keys[one].keyval.get("public", "")).lower()
        for one in role.keyids
        if one in keys
    )


def _check_unique(name: str, role: Role, keys: Mapping[str, Key]) -> None:
    public = [
        json.dumps(keys[one].keyval, sort_keys=True).lower()
        for one in role.keyids
        if one in keys
    ]
    if len(set(public)) != len(public):
        raise DuplicateKeyError(f"{name} counts one public key under two key ids")
