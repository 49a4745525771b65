"""Who signs what from now on: the next metadata of all roles that this touches. Pure.

A role is signed by the keys that are in force *after* the change, so every role whose keys
change is signed anew with it: a device never meets a role that its delegator disowns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuf.api.metadata import Root, Targets

from modelfleet_manifests.keys import PublicKey
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust import delegations, repository
from modelfleet_server.trust.delegations import (
    GROUPS,
    NAMESPACES,
    WAIVERS,
    KeySet,
)
from modelfleet_server.trust.repository import EPOCH

TOP = ("root", "targets", "snapshot", "timestamp")
DELEGATED = ("revocations", "stops", "director", "time")
APPROVERS = "namespaces"
ROLES = (*TOP, *DELEGATED, APPROVERS)


@dataclass(frozen=True, slots=True)
class Held:
    """The metadata in force: `roles` are all that targets delegate, directly or not."""

    root: Root
    targets: Targets
    roles: Mapping[str, Targets]


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """Other keys.

    Attributes:
        keys: By role, one of `ROLES`; those that are not named stay. `namespaces` are all
            approvers; the name of one namespace is its approvers only.
        groups: Of each of these, one approver must be among the signers; None leaves them.
        waivers: Who lets pass what was not reproduced; None leaves them, none is everybody.
    """

    keys: Mapping[str, KeySet] = field(default_factory=dict)
    groups: Sequence[Sequence[PublicKey]] | None = None
    waivers: Sequence[PublicKey] | None = None


def compose(held: Held, plan: KeyPlan, now_ms: int) -> dict[str, Root | Targets]:
    """Return the next metadata of every role that `plan` touches, delegating roles first.

    Raises:
        InvalidError: A role is not known, or a group has a key that may not approve.
    """
    _check(held, plan)
    changed: dict[str, Root | Targets] = {}
    if not plan.keys.keys().isdisjoint(TOP):
        root = repository.advance(held.root, "root", now_ms)
        for role in TOP:
            if role in plan.keys:
                delegations.set_keys(root, role, plan.keys[role])
        changed["root"] = root
    below = plan.keys.keys() - {*TOP}
    regrouped = plan.groups is not None or plan.waivers is not None
    if below or regrouped or "targets" in plan.keys:
        changed["targets"] = _next_targets(held, plan, now_ms)
    for role in ("revocations", "stops"):
        if role in plan.keys:
            changed[role] = repository.advance(held.roles[role], role, now_ms)
    return changed | _next_approved(held, plan, now_ms)


def describe(plan: KeyPlan) -> str:
    """Return a title: which roles get which thresholds."""
    words = [
        f"{role} {one.threshold} of {len(one.keys)}" for role, one in plan.keys.items()
    ]
    if plan.groups is not None:
        words.append(f"{len(plan.groups)} groups of approvers")
    if plan.waivers is not None:
        words.append(f"{len(plan.waivers)} in the group build-waiver")
    return "keys: " + ", ".join(words)


def _check(held: Held, plan: KeyPlan) -> None:
    if not plan.keys and plan.groups is None and plan.waivers is None:
        raise InvalidError("the plan changes no keys", "Name a role and its keys.")
    unknown = sorted(plan.keys.keys() - {*ROLES, *_namespaces(held)})
    if unknown:
        raise InvalidError(
            f"there is no role and no namespace {unknown[0]!r}",
            f"The roles are: {', '.join(ROLES)}.",
        )
    known = _approvers(held, plan)
    _check_waivers(held, plan, known)
    groups = plan.groups
    told = (
        held.targets.unrecognized_fields.get(GROUPS, [])
        if groups is None
        else [[key.hex for key in group] for group in groups]
    )
    for group in told:
        if known.isdisjoint(group):
            raise InvalidError(
                "a group of approvers has nobody who may approve",
                "Name the approvers first, or change the groups with them.",
            )


def _next_targets(held: Held, plan: KeyPlan, now_ms: int) -> Targets:
    targets = repository.advance(held.targets, "targets", now_ms)
    for role in DELEGATED:
        if role in plan.keys:
            delegations.set_keys(targets, role, plan.keys[role])
    approvers = plan.keys.get(APPROVERS)
    for role in _namespaces(held):
        keys = plan.keys.get(role, approvers)
        if keys is not None:
            delegations.set_keys(targets, role, keys)
    targets.unrecognized_fields |= _next_fields(targets, plan)
    return targets


def _next_fields(targets: Targets, plan: KeyPlan) -> dict[str, object]:
    fields: dict[str, object] = {}
    if "director" in plan.keys:
        fields[EPOCH] = targets.unrecognized_fields.get(EPOCH, 0) + 1
    approvers = plan.keys.get(APPROVERS)
    if approvers is not None:
        fields[NAMESPACES] = {
            "keys": [key.hex for key in approvers.keys],
            "threshold": approvers.threshold,
        }
    if plan.waivers is not None:
        fields[WAIVERS] = [key.hex for key in plan.waivers]
    if plan.groups is not None:
        fields[GROUPS] = [[key.hex for key in group] for group in plan.groups]
    return fields


def _namespaces(held: Held) -> list[str]:
    return [role for role in held.roles if delegations.is_namespace(held.targets, role)]


def _approvers(held: Held, plan: KeyPlan) -> set[str]:
    """Return the public keys of all who approve anywhere after the change."""
    usual = plan.keys.get(APPROVERS)
    sets = [usual or delegations.namespace_keys(held.targets)]
    sets += [
        plan.keys.get(role) or usual or delegations.keys_of(held.targets, role)
        for role in _namespaces(held)
    ]
    return {key.hex for one in sets for key in one.keys}


def _check_waivers(held: Held, plan: KeyPlan, known: set[str]) -> None:
    told = (
        delegations.waivers_of(held.targets)
        if plan.waivers is None
        else [key.hex for key in plan.waivers]
    )
    if told and known.isdisjoint(told):
        raise InvalidError(
            "the group build-waiver has nobody who may approve",
            "Name the approvers first, or change the group with them.",
        )


def _next_approved(held: Held, plan: KeyPlan, now_ms: int) -> dict[str, Root | Targets]:
    """The namespaces, then their models: signed by those who approve from now on."""
    names = [role for role in held.roles if delegations.groups_apply(held.targets, role)]
    changed: dict[str, Root | Targets] = {}
    for name in sorted(names, key=lambda role: ("/" in role, role)):
        namespace = name.partition("/")[0]
        approvers = plan.keys.get(namespace, plan.keys.get(APPROVERS))
        if approvers is None and plan.groups is None:
            continue
        role = repository.advance(held.roles[name], name, now_ms)
        if approvers is not None and "/" not in name:
            for model in list((role.delegations and role.delegations.roles) or {}):
                delegations.set_keys(role, model, approvers)
        changed[name] = role
    return changed
