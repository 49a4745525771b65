"""Who signs what: keys and thresholds of roles, namespaces, groups of approvers; pure.

Beside what TUF knows, the top-level targets carry `x-namespaces` (who approves in a
namespace that is not there yet), `x-groups` (of each of these groups of approvers one must
sign) and `x-build-waiver` (of these one must sign a release with a waived variant).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from securesystemslib.signer import Signature
from tuf.api.metadata import DelegatedRole, Delegations, Role, Root, Targets

from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.names import release_path
from modelfleet_manifests.recalls import ACTIONS
from modelfleet_manifests.tuf_keys import NaclKey

ONLINE_ROLES = ("director", "time")
RECALL_PATHS = {role: f"tombstone/{action}/*/*" for role, action in ACTIONS.items()}
NAMESPACES, GROUPS, WAIVERS = "x-namespaces", "x-groups", "x-build-waiver"


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


def is_namespace(targets: Targets, role: str) -> bool:
    """Say whether `role` is a namespace that the officers delegate."""
    own = {*RECALL_PATHS, *ONLINE_ROLES}
    return role not in own and is_delegated(targets, role)


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


def groups_apply(targets: Targets, role: str) -> bool:
    """Say whether approvers sign `role`: a namespace, or a model in one."""
    return "/" in role or is_namespace(targets, role)


def groups_of(targets: Targets, role: str) -> list[list[str]]:
    """Return the groups of which one key each must sign `role`: for approvers only."""
    if not groups_apply(targets, role):
        return []
    return [list(group) for group in targets.unrecognized_fields.get(GROUPS, [])]


def waivers_of(targets: Targets) -> list[str]:
    """Return the group `build-waiver`: who lets pass what was not reproduced."""
    return [str(key) for key in targets.unrecognized_fields.get(WAIVERS, [])]


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
