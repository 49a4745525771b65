"""The approver's side: fetch a proposal, see in words what it changes, sign it.

Runs where the approver's keys are; it needs nothing of the server but what it serves, and
believes none of it: what is in force is verified from the fleet's first root on, and every
difference from that is either said in words or refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from modelfleet_manifests.canonical import parse
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.errors import ManifestError
from modelfleet_server.kit.errors import ForbiddenError, InvalidError
from modelfleet_server.trust import delegations, rolefile
from modelfleet_server.trust.approver import ApproverKeys
from modelfleet_server.trust.changes import RefusedError, describe_role, describe_root
from modelfleet_server.trust.domain import RoleSignature

MAX_PAYLOAD = 4 << 20
MAX_ROOTS = 256
MALFORMED = (ValueError, KeyError, TypeError, AttributeError)
"""What python-tuf raises on metadata of the wrong shape."""

Fetch = Callable[[str], bytes | None]
"""Returns the file below `/tuf/metadata/` with this quoted name, None if there is none."""


@dataclass(frozen=True, slots=True)
class ProposalCopy:
    """A proposal as the server handed it out; nothing in it is believed.

    Attributes:
        roles: Canonical bytes of each role's signed part, delegating roles first.
        targets: New target files by path.
        signatures: Gathered so far, by role and key id, in hexadecimal digits.
    """

    id: str
    title: str
    roles: Mapping[str, bytes]
    targets: Mapping[str, bytes]
    signatures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InForce:
    """Verified metadata: the root, and the targets roles that a proposal touches.

    Attributes:
        versions: Of every role that the snapshot names, of root, snapshot and timestamp.
    """

    root: Root
    roles: Mapping[str, Targets]
    versions: Mapping[str, int] = field(default_factory=dict)


def read_proposal(value: Mapping[str, Any]) -> ProposalCopy:
    """Return the proposal in the JSON that `GET /api/v1/proposals/{id}` answers.

    Raises:
        InvalidError: It is no such JSON.
    """
    try:
        return ProposalCopy(
            id=str(value["id"]),
            title=str(value["title"]),
            roles={one["role"]: one["payload"].encode() for one in value["roles"]},
            targets={one["path"]: one["data"].encode() for one in value["targets"]},
            signatures=_signatures(value["signatures"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidError(f"the server's answer is not a proposal ({error!r})") from None


def _signatures(value: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for one in value:
        found.setdefault(str(one["role"]), {})[str(one["key_id"])] = str(one["signature"])
    return found


def fetch_in_force(fetch: Fetch, fleet: str, roles: Mapping[str, object]) -> InForce:
    """Return what is in force of `roles` and of who delegates them, verified from root 1.

    Expiry is not judged: what is about to be replaced may have expired.

    Args:
        fetch: Gets a metadata file.
        fleet: SHA-256 of the first root, from the approver's key file.
        roles: Names of the roles that a proposal changes.

    Raises:
        RefusedError: The server serves another fleet, or metadata that does not verify.
    """
    try:
        root = _walk_roots(fetch, fleet)
        timestamp, snapshot = _snapshot(fetch, root)
        found: dict[str, Targets] = {}
        for role in _with_delegators(roles):
            entry = snapshot.meta.get(f"{role}.json")
            if entry is None:
                continue  # new with this proposal
            data = _get(fetch, f"{entry.version}.{role.replace('/', '%2F')}.json")
            found[role] = _verified(data, role, entry.version, root, found)
    except (RepositoryError, ManifestError, *MALFORMED) as error:
        raise RefusedError(
            f"the server's trust metadata does not verify ({error})",
            "Do not sign. Ask who runs the server what happened.",
        ) from None
    versions = {
        file.removesuffix(".json"): meta.version for file, meta in snapshot.meta.items()
    }
    versions |= {one.type: one.version for one in (root, snapshot, timestamp)}
    return InForce(root, found, versions)


def describe(proposal: ProposalCopy, in_force: InForce) -> list[str]:
    """Return what a proposal changes, a sentence each.

    Raises:
        RefusedError: It has something that must not be signed, whatever the words.
    """
    lines: list[str] = []
    for role, payload in proposal.roles.items():
        new = _parse(role, payload)
        try:
            lines += _describe(role, new, in_force, proposal)
        except (ManifestError, *MALFORMED) as error:
            raise RefusedError(f"the role {role} is not well-formed ({error!r})") from None
    if not all(line.isprintable() for line in lines):
        raise RefusedError(f"the proposal {proposal.id} has characters that hide others")
    if not lines:
        raise RefusedError(f"the proposal {proposal.id} changes nothing")
    return lines


def sign(
    proposal: ProposalCopy, keys: ApproverKeys, in_force: InForce
) -> list[RoleSignature]:
    """Return a signature for every role and every key in `keys` that may sign it.

    Describes first, so that what must not be signed is not, also where nobody looks.

    Raises:
        RefusedError: It has something that must not be signed.
        ForbiddenError: None of these keys may sign any role of it.
    """
    describe(proposal, in_force)
    proposed = {role: _parse(role, data) for role, data in proposal.roles.items()}
    by_id = {key.public.key_id: key for key in keys.by_role.values()}
    signatures = []
    for role, signed in proposed.items():
        wanted = dict.fromkeys(
            key_id
            for judge in _judges(role, proposed, in_force)
            for key_id in delegations.delegated_role(judge, role).keyids
        )
        message = rolefile.payload_of(signed)
        signatures += [
            RoleSignature(role, key_id, by_id[key_id].sign(message).hex())
            for key_id in wanted
            if key_id in by_id
        ]
    if not signatures:
        raise ForbiddenError(
            f"none of these keys may sign the proposal {proposal.id}",
            "Another approver has to; see: modelfleet proposal show.",
        )
    return signatures


def _describe(
    role: str, new: Root | Targets, in_force: InForce, proposal: ProposalCopy
) -> list[str]:
    if isinstance(new, Root):
        return describe_root(in_force.root, new)
    return describe_role(role, in_force.roles.get(role), new, proposal.targets)


def _parse(role: str, payload: bytes) -> Root | Targets:
    signed: Signed
    try:
        parse(payload, what=f"role {role}", cap=MAX_PAYLOAD)
        signed = rolefile.parse_signed(payload)
    except ManifestError as error:
        raise RefusedError(f"the role {role} cannot be read ({error})") from None
    if rolefile.payload_of(signed) != payload:
        raise RefusedError(f"the role {role} has something that is not understood")
    if role == "root" and isinstance(signed, Root):
        return signed
    if role == "root" or not isinstance(signed, Targets):
        raise RefusedError(f"the role {role} is metadata of type {signed.type}")
    return signed


def _judges(
    role: str, proposed: Mapping[str, Root | Targets], in_force: InForce
) -> list[Root | Targets]:
    """Who says which keys sign: a new root is signed under the old one and under itself."""
    name = delegations.delegator_of(role)
    if name is None:
        return [in_force.root, proposed["root"]]
    delegator = proposed.get(name) or (
        in_force.root if name == "root" else in_force.roles.get(name)
    )
    if delegator is None or (
        isinstance(delegator, Targets) and not delegations.is_delegated(delegator, role)
    ):
        raise RefusedError(f"nobody says who signs the role {role}")
    return [delegator]


def _walk_roots(fetch: Fetch, fleet: str) -> Root:
    data = _get(fetch, "1.root.json")
    if sha256(data) != fleet:
        raise ValueError(f"it serves another fleet than {fleet}")
    root = _root(data)
    for version in range(2, MAX_ROOTS + 2):
        following = fetch(f"{version}.root.json")
        if following is None:
            return root
        metadata = rolefile.read_file(following)
        new = _root(following)
        if new.version != version:
            raise ValueError(f"root {version} says it is version {new.version}")
        for judge in (root, new):
            _check_signed(judge, "root", metadata)
        root = new
    raise ValueError(f"more than {MAX_ROOTS} roots")


def _snapshot(fetch: Fetch, root: Root) -> tuple[Timestamp, Snapshot]:
    metadata = rolefile.read_file(_get(fetch, "timestamp.json"))
    _check_signed(root, "timestamp", metadata)
    if not isinstance(metadata.signed, Timestamp):
        raise TypeError("the timestamp is none")
    version = metadata.signed.snapshot_meta.version
    data = _get(fetch, f"{version}.snapshot.json")
    metadata.signed.snapshot_meta.verify_length_and_hashes(data)
    inner = rolefile.read_file(data)
    _check_signed(root, "snapshot", inner)
    if not isinstance(inner.signed, Snapshot) or inner.signed.version != version:
        raise TypeError("the snapshot is another one")
    return metadata.signed, inner.signed


def _verified(
    data: bytes, role: str, version: int, root: Root, found: Mapping[str, Targets]
) -> Targets:
    metadata = rolefile.read_file(data)
    name = delegations.delegator_of(role)
    _check_signed(root if name == "root" else found[name or ""], role, metadata)
    if not isinstance(metadata.signed, Targets) or metadata.signed.version != version:
        raise TypeError(f"the role {role} is another one than the snapshot says")
    return metadata.signed


def _check_signed(judge: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    signatures = {key: one.signature for key, one in metadata.signatures.items()}
    if delegations.missing_signers(judge, role, metadata.signed_bytes, signatures):
        raise ValueError(f"{role} has too few signatures")


def _root(data: bytes) -> Root:
    signed = rolefile.read_file(data).signed
    if not isinstance(signed, Root):
        raise TypeError("the root is none")
    return signed


def _get(fetch: Fetch, name: str) -> bytes:
    data = fetch(name)
    if data is None:
        raise ValueError(f"{name} is missing")
    return data


def _with_delegators(roles: Mapping[str, object]) -> list[str]:
    """Return `roles` with all that delegate them, top first."""
    wanted: dict[str, None] = {"targets": None}
    for role in roles:
        chain: list[str] = []
        name: str | None = role
        while name not in {None, "root"}:
            chain.append(name or "")
            name = delegations.delegator_of(name or "")
        wanted |= dict.fromkeys(reversed(chain))
    return list(wanted)
