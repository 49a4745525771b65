"""A key ceremony of several people: one file that goes from hand to hand.

begin → everybody joins with public keys → close → everybody signs → finish. Each step reads
the file and writes it whole, and doing a step again changes nothing: the ceremony can be
left and resumed at any point. Private keys never come near it.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace as replaced
from pathlib import Path

import msgspec
from msgspec.structs import replace
from sqlmodel import Session
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root, Targets
from tuf.api.serialization import DeserializationError

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.names import check_name
from modelfleet_server.audit import service as audit
from modelfleet_server.kit.access import system
from modelfleet_server.kit.errors import ConflictError, ForbiddenError, InvalidError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust import delegations, repository, rolefile
from modelfleet_server.trust.approver import ROLES, ApproverKeys
from modelfleet_server.trust.ceremony import check_new, first_signer
from modelfleet_server.trust.delegations import (
    GROUPS,
    RECALL_PATHS,
    KeySet,
)
from modelfleet_server.trust.online import Online, OnlineKeys
from modelfleet_server.trust.publishing import publish_roles

FORMAT = "modelfleet-ceremony-0"
MAX_BYTES = 1 << 20
NAMESPACES_ROLE = "namespaces"
SIGNED = ("root", "targets", "revocations", "stops")


class Gathering(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ceremony's file.

    Attributes:
        format: `FORMAT`.
        thresholds: Signatures that each of `ROLES` will need.
        groups: Names of people; of each group one must sign what approvers sign.
        online: The server's public keys by role.
        people: Public keys of each person, by role.
        payloads: What is signed, by role; empty until everybody has joined.
        signatures: By role and key id.
    """

    format: str = FORMAT
    thresholds: dict[str, int]
    groups: list[list[str]] = []
    online: dict[str, str]
    people: dict[str, dict[str, str]] = {}
    payloads: dict[str, str] = {}
    signatures: dict[str, dict[str, str]] = {}

    @property
    def is_closed(self) -> bool:
        """Everybody has joined."""
        return bool(self.payloads)


def begin(
    thresholds: Mapping[str, int],
    online: OnlineKeys,
    groups: Sequence[Sequence[str]] = (),
) -> Gathering:
    """Return a ceremony that nobody has joined yet.

    Raises:
        InvalidError: A threshold is missing, below 1, or of no role.
    """
    if set(thresholds) != set(ROLES) or any(one < 1 for one in thresholds.values()):
        raise InvalidError(
            "the thresholds do not fit", f"Give one of at least 1 for {', '.join(ROLES)}."
        )
    return Gathering(
        thresholds=dict(thresholds),
        groups=[list(group) for group in groups],
        online={role: key.hex for role, key in online.public().items()},
    )


def join(held: Gathering, name: str, keys: Mapping[str, PublicKey]) -> Gathering:
    """Return the ceremony with one more person; joining again changes nothing.

    Raises:
        ConflictError: Somebody else has this name or one of the keys, or it is closed.
        InvalidError: The name is not allowed, or a role has no key.
    """
    check_name(name, "person")
    if set(keys) != set(ROLES):
        raise InvalidError(f"{name} has no key for every role", "Make a new key file.")
    mine = {role: key.hex for role, key in keys.items()}
    if held.people.get(name) == mine:
        return held
    taken = {key for one in held.people.values() for key in one.values()}
    if held.is_closed or name in held.people or not taken.isdisjoint(mine.values()):
        raise ConflictError(
            f"{name} cannot join: the name or a key is taken, or everybody is there",
            "One person, one key file; begin again where somebody is missing.",
            person=name,
        )
    return replace(held, people=held.people | {name: mine})


def close(held: Gathering, now_ms: int) -> Gathering:
    """Return the ceremony with what is to be signed; nobody joins from here on.

    Raises:
        InvalidError: There are fewer people than a threshold asks for, or a group names
            somebody who is not there.
    """
    if held.is_closed:
        return held
    missing = {name for group in held.groups for name in group} - held.people.keys()
    short = [role for role in ROLES if held.thresholds[role] > len(held.people)]
    if missing or short or not all(held.groups):
        who = f"{min(missing)} of a group has not joined" if missing else ""
        few = f"{len(held.people)} people cannot sign {short[0] if short else 'a group'}"
        raise InvalidError(
            who or few, "Let more people join, or begin with lower thresholds."
        )
    keys = {role: _key_set(held, role) for role in ROLES}
    served = {role: KeySet((PublicKey(key),)) for role, key in held.online.items()}
    top = ("root", "targets", "snapshot", "timestamp")
    root = repository.make_root({role: (keys | served)[role] for role in top}, now_ms)
    targets = repository.make_targets(keys | served, keys[NAMESPACES_ROLE], now_ms)
    if held.groups:
        targets.unrecognized_fields[GROUPS] = [
            [held.people[name][NAMESPACES_ROLE] for name in group] for group in held.groups
        ]
    signed: dict[str, Root | Targets] = {"root": root, "targets": targets}
    signed |= {role: repository.make_empty(role, now_ms) for role in RECALL_PATHS}
    payloads = {role: rolefile.payload_of(one).decode() for role, one in signed.items()}
    return replace(held, payloads=payloads)


def describe(held: Gathering) -> list[str]:
    """Return what everybody is about to sign, a sentence each; compare the fingerprints."""
    lines = [
        f"{role}: {held.thresholds[role]} of {len(held.people)} people sign."
        for role in ROLES
    ]
    lines += [f"One of {', '.join(group)} must sign a release." for group in held.groups]
    for name, keys in sorted(held.people.items()):
        prints = " ".join(PublicKey(keys[role]).fingerprint[:16] for role in ROLES)
        lines.append(f"{name}: {prints}")
    if held.is_closed:
        root = rolefile.parse_signed(held.payloads["root"].encode())
        lines.append(f"The root is valid until {root.expires:%Y-%m-%d}.")
    return lines


def sign(held: Gathering, keys: ApproverKeys) -> Gathering:
    """Return the ceremony with the signatures of one person, over what their own copy says.

    Raises:
        ConflictError: Not everybody has joined yet.
        ForbiddenError: These keys have not joined.
        InvalidError: What is to be signed does not follow from who joined.
    """
    mine = {role: key.public.hex for role, key in keys.by_role.items()}
    if not held.is_closed:
        raise ConflictError("not everybody has joined yet", "Close the ceremony first.")
    if mine not in held.people.values():
        raise ForbiddenError("these keys have not joined the ceremony")
    _check_payloads(held)
    signatures = {role: dict(held.signatures.get(role, {})) for role in SIGNED}
    for role in SIGNED:
        key = keys.by_role[role]
        signatures[role][key.public.key_id] = key.sign(held.payloads[role].encode()).hex()
    return replace(held, signatures=signatures)


def missing(held: Gathering) -> dict[str, int]:
    """Return how many signatures each role still lacks; none are counted unverified."""
    if not held.is_closed:
        return dict.fromkeys(SIGNED, max(held.thresholds.values()))
    judges = {"root": "root", "targets": "root"}
    found = {}
    for role in SIGNED:
        judge = rolefile.parse_signed(held.payloads[judges.get(role, "targets")].encode())
        if not isinstance(judge, Root | Targets):
            raise _broken()
        payload, signatures = held.payloads[role].encode(), held.signatures.get(role, {})
        found[role] = delegations.missing_signers(judge, role, payload, signatures)
    return found


def finish(session: Session, held: Gathering, online: OnlineKeys, now_ms: int) -> bytes:
    """Publish version 1 of everything; return the first root, which is the fleet.

    Args:
        session: Writing; the caller commits, and writes the online keys.
        held: Signed by enough people.
        online: The server's keys.
        now_ms: Unix milliseconds.

    Raises:
        FleetExistsError: There is a fleet already.
        ConflictError: Signatures are missing.
        InvalidError: The ceremony was held for other online keys, or was altered.
    """
    check_new(session)
    if {role: key.hex for role, key in online.public().items()} != held.online:
        raise InvalidError("the ceremony was held for a server with other online keys")
    lacking = {role: count for role, count in missing(held).items() if count}
    if lacking:
        role, count = next(iter(lacking.items()))
        raise ConflictError(
            f"{count} more signatures are needed for {role}",
            "Take the file to the people who have not signed.",
            missing=lacking,
        )
    _check_payloads(held)
    files = {
        role: rolefile.assemble(held.payloads[role].encode(), held.signatures[role])
        for role in SIGNED
    }
    fleet = sha256(files["root"])
    signer = first_signer(Online(fleet, online), now_ms)
    publish_roles(session, signer, files, {}, now_ms=now_ms)
    audit.record(
        session,
        str(system("init")),
        "fleet.begun",
        fleet,
        {"people": sorted(held.people), "thresholds": held.thresholds},
        at_ms=now_ms,
    )
    return files["root"]


def adopt(keys: ApproverKeys, root: bytes) -> ApproverKeys:
    """Return the keys as those of the fleet that `root` begins.

    Raises:
        ForbiddenError: The root does not name this person's key.
        InvalidError: It is no root.
    """
    signed = _read_root(root)
    mine = keys.by_role["root"].public
    if mine.key_id not in signed.roles["root"].keyids:
        raise ForbiddenError("this fleet's root does not name the key of this file")
    return replaced(keys, fleet=sha256(root))


def read(path: Path) -> Gathering:
    """Return the ceremony in a file.

    Raises:
        InvalidError: It is none, or too large to be one.
    """
    try:
        data = path.read_bytes()
        held = msgspec.json.decode(data, type=Gathering)
        for keys in held.people.values():
            for key in keys.values():
                PublicKey(key)
    except (OSError, msgspec.MsgspecError, ManifestError) as error:
        raise InvalidError(
            f"{path} is no ceremony file ({error})", path=str(path)
        ) from None
    if held.format != FORMAT or len(data) > MAX_BYTES:
        raise InvalidError(f"{path} is no ceremony file", path=str(path))
    return held


def write(path: Path, held: Gathering) -> None:
    """Replace a ceremony's file, whole."""
    draft = path.with_name(f".{path.name}.{new_id()}")
    with draft.open("xb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(held), indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _key_set(held: Gathering, role: str) -> KeySet:
    keys = tuple(PublicKey(one[role]) for one in held.people.values())
    return KeySet(keys, held.thresholds[role])


def _check_payloads(held: Gathering) -> None:
    """What is signed must be what follows from the list of people: nothing hides in it."""
    times = [rolefile.parse_signed(one.encode()).expires for one in held.payloads.values()]
    first = min(int(one.timestamp()) * 1000 for one in times)
    began = first - repository.LIFE_DAYS["stops"] * repository.DAY_MS
    expected = close(replace(held, payloads={}, signatures={}), began)
    if expected.payloads != held.payloads:
        raise _broken()


def _read_root(data: bytes) -> Root:
    try:
        signed = rolefile.read_file(data).signed
    except (RepositoryError, DeserializationError) as error:
        raise InvalidError(f"this is no root ({error})") from None
    if not isinstance(signed, Root):
        raise InvalidError("this is no root")
    return signed


def _broken() -> InvalidError:
    return InvalidError(
        "the ceremony was altered: what is to be signed does not follow from who joined",
        "Do not sign. Begin again, and compare the file on the way.",
    )
