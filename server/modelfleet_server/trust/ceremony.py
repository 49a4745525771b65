"""Begins a fleet: makes its keys and the first version of every top-level role."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlmodel import Session
from tuf.api.metadata import Metadata, Root, Targets

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.tuf_keys import NaclSigner
from modelfleet_server.audit import service as audit
from modelfleet_server.kit.access import system
from modelfleet_server.kit.errors import ConflictError
from modelfleet_server.trust import delegations, repository, store
from modelfleet_server.trust.approver import (
    ApproverKeys,
    Cost,
    check_passphrase,
    write_approver,
)
from modelfleet_server.trust.delegations import KeySet
from modelfleet_server.trust.online import Online, OnlineKeys, write_online
from modelfleet_server.trust.publishing import publish_roles
from modelfleet_server.trust.signer.desk import Desk
from modelfleet_server.trust.signer.memory import Memory

WORDS = (
    "Solo: every role has one key and needs one signature.",
    "Whoever has {approver} and its passphrase decides what the fleet runs, alone.",
    "Whoever has this server and {approver} has the fleet: keep that file elsewhere.",
    "Lose {approver} or its passphrase, and nothing can be released or revoked: copy it.",
    "{online} may only choose among releases that were signed; it stays on this server.",
    "More people and higher thresholds can come later without touching a device.",
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What was begun.

    Attributes:
        fleet: SHA-256 of the first root: the fleet's id, burnt into devices.
        words: What solo means, a sentence each.
    """

    fleet: str
    words: tuple[str, ...]


class FleetExistsError(ConflictError):
    """A fleet was begun here already."""

    code = "fleet-exists"


def init_solo(
    session: Session,
    *,
    online_path: Path,
    approver_path: Path,
    passphrase: str,
    now_ms: int,
    cost: Cost | None = None,
) -> Summary:
    """Make the keys of a solo fleet and version 1 of its metadata.

    The key files are written last: if anything fails there is neither a file nor a row.

    Args:
        session: Writing; the caller commits.
        online_path: Where the server's own keys go.
        approver_path: Where the approver's keys go.
        passphrase: Seals the approver's keys.
        now_ms: Unix milliseconds.
        cost: Of guessing the passphrase; None for the default.

    Raises:
        FleetExistsError: There is a fleet already.
        ConflictError: One of the two files exists.
        InvalidError: The passphrase is too short.
    """
    check_passphrase(passphrase)
    check_new(session, online_path, approver_path)
    offline, online = ApproverKeys.generate(), OnlineKeys.generate()
    files = _make_files(offline, online, now_ms)
    fleet = sha256(files["root"])
    signer = first_signer(Online(fleet, online), now_ms)
    publish_roles(session, signer, files, {}, now_ms=now_ms)
    audit.record(
        session, str(system("init")), "fleet.begun", fleet, {"solo": True}, at_ms=now_ms
    )
    write_approver(approver_path, ApproverKeys(fleet, offline), passphrase, cost)
    try:
        write_online(online_path, Online(fleet, online))
    except BaseException:
        approver_path.unlink()
        raise
    names = {"approver": approver_path, "online": online_path}
    return Summary(fleet, tuple(line.format(**names) for line in WORDS))


def first_signer(online: Online, now_ms: int) -> Desk:
    """Return the signer of a ceremony; the server's own learns the rest from its files."""
    return Desk(lambda: [online], Memory(), lambda: now_ms)


def fleet_id(session: Session) -> str | None:
    """Return the fleet's id, None where no fleet was begun."""
    root = store.find(session, "root", 1)
    return None if root is None else root.digest


def check_new(session: Session, *paths: Path) -> None:
    """Return if a fleet can begin here, and none of its key files is there.

    Raises:
        FleetExistsError: There is a fleet already.
        ConflictError: One of the files exists.
    """
    fleet = fleet_id(session)
    if fleet is not None:
        raise FleetExistsError(
            f"a fleet was begun here already: {fleet}",
            "Use another home for another fleet.",
            fleet=fleet,
        )
    for path in paths:
        if path.exists():
            raise ConflictError(
                f"the key file {path} exists already",
                "Keys are never overwritten: name another file, or move this one away.",
                path=str(path),
            )


def _make_files(
    offline: Mapping[str, PrivateKey], online: OnlineKeys, now_ms: int
) -> dict[str, bytes]:
    solo = {role: KeySet((key.public,)) for role, key in offline.items()}
    served = {role: KeySet((key,)) for role, key in online.public().items()}
    top = ("root", "targets", "snapshot", "timestamp")
    root = repository.make_root({role: (solo | served)[role] for role in top}, now_ms)
    targets = repository.make_targets(solo | served, solo["namespaces"], now_ms)
    return {
        "root": _sign(root, offline["root"]),
        "targets": _sign(targets, offline["targets"]),
        **{
            role: _sign(repository.make_empty(role, now_ms), offline[role])
            for role in delegations.RECALL_PATHS
        },
    }


def _sign(signed: Root | Targets, key: PrivateKey) -> bytes:
    metadata: Metadata[Any] = Metadata(signed)
    metadata.sign(NaclSigner(key))
    return metadata.to_bytes()
