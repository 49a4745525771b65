"""Puts signed roles into force: snapshot, timestamp, outbox, in one transaction."""

import base64
import logging
from collections.abc import Mapping
from functools import partial

from sqlmodel import Session, col, delete
from tuf.api.metadata import Root, Snapshot, Timestamp

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.topics import RECALLS, TIMESTAMP
from modelfleet_server.audit import service as audit
from modelfleet_server.bridge import outbox
from modelfleet_server.kit.access import system
from modelfleet_server.kit.errors import NotFoundError
from modelfleet_server.trust import delegations, ledger, repository, rolefile, store
from modelfleet_server.trust.lessons import rank, taught
from modelfleet_server.trust.signer.domain import RoleFile, Signer, TakenError
from modelfleet_server.trust.tables import TrustMetadata, TrustTarget

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
RESIGN_MS = DAY_MS
"""Age at which snapshot and timestamp are signed anew."""

KEEP_MS = 7 * DAY_MS
"""How long a replaced snapshot or timestamp can still be fetched."""


class NoFleetError(NotFoundError):
    """No key ceremony was held here yet."""

    code = "no-fleet"


def publish_roles(
    session: Session,
    signer: Signer,
    files: Mapping[str, bytes],
    targets: Mapping[str, bytes],
    *,
    now_ms: int,
) -> None:
    """Put role files and targets into force, under a new snapshot and timestamp.

    Args:
        session: Writing.
        signer: Of snapshot and timestamp.
        files: Signed metadata by role; its signatures were checked.
        targets: New target files by path.
        now_ms: Unix milliseconds.
    """
    for path, data in targets.items():
        if store.find_target(session, path, sha256(data)) is None:
            session.add(
                TrustTarget(path=path, digest=sha256(data), data=data, created_ms=now_ms)
            )
    before = _basis(session)
    versions = {
        role: store_file(session, role, data, now_ms) for role, data in files.items()
    }
    told = [RoleFile(role, files[role]) for role in sorted(files, key=rank)]
    taught(session, signer, lambda: signer.learn(told))
    if before is not None and _basis(session) != before:
        # signed by a key that devices do not take any more, or they ask for versions that
        # were counted up by a thief, and which nobody will reach again
        ledger.make_all_due(session, now_ms)
    _renew_online(session, signer, versions, now_ms)
    if not delegations.RECALL_PATHS.keys().isdisjoint(files):
        send_recalls(session)


def _basis(session: Session) -> tuple[int, frozenset[str]] | None:
    """Return what documents rest on: the epoch, and the keys of snapshot and timestamp."""
    row = store.find_newest(session, "root")
    if row is None:
        return None
    root = rolefile.read_file(row.data).signed
    if not isinstance(root, Root):
        raise TypeError("the stored root is none")
    keys = {key for role in ("snapshot", "timestamp") for key in root.roles[role].keyids}
    return store.read_epoch(session), frozenset(keys)


def keep_fresh(session: Session, signer: Signer, now_ms: int) -> bool:
    """Sign snapshot and timestamp anew when they are a day old; say whether that was so.

    Meant to be called often. A fleet that was not begun yet has nothing to keep fresh.
    """
    timestamp = store.find_newest(session, "timestamp")
    if timestamp is None or now_ms - timestamp.created_ms < RESIGN_MS:
        return False
    _renew_online(session, signer, {}, now_ms)
    session.execute(
        delete(TrustMetadata).where(
            col(TrustMetadata.role).in_(("timestamp", "snapshot")),
            col(TrustMetadata.created_ms) < now_ms - KEEP_MS,
        )
    )
    audit.record(
        session,
        str(system("trust")),
        "trust.refreshed",
        "timestamp",
        {"version": timestamp.version + 1},
        at_ms=now_ms,
    )
    return True


def store_file(session: Session, role: str, data: bytes, now_ms: int) -> int:
    """Store one version of a role's file; return the version."""
    signed = rolefile.read_file(data).signed
    session.add(
        TrustMetadata(
            role=role,
            version=signed.version,
            data=data,
            digest=sha256(data),
            created_ms=now_ms,
            expires_ms=int(signed.expires.timestamp()) * 1000,
        )
    )
    session.flush()
    store.forget(session)
    return int(signed.version)


def send_recalls(session: Session) -> None:
    """Put the two role files of revocations and stops into the outbox.

    Files too large for one message must not keep a recall from being published: the last
    message that fitted stays, and devices learn the rest when they refresh.

    Raises:
        NoFleetError: There are none yet.
    """
    files = {
        role: base64.b64encode(require(session, role).data).decode()
        for role in delegations.RECALL_PATHS
    }
    payload = canonical(files)
    if len(payload) > outbox.MAX_PAYLOAD:
        log.error("the recalls have %d bytes and travel by refresh only", len(payload))
        return
    outbox.put(session, RECALLS, payload)


def require(session: Session, role: str) -> TrustMetadata:
    """Return a role's metadata in force.

    Raises:
        NoFleetError: There is none: no ceremony was held.
    """
    row = store.find_newest(session, role)
    if row is None:
        raise NoFleetError(
            f"this server has no trust metadata for {role!r}",
            "Begin a fleet with: modelfleet init --solo.",
        )
    return row


def _renew_online(
    session: Session, signer: Signer, versions: Mapping[str, int], now_ms: int
) -> None:
    before = store.find_newest(session, "snapshot")
    held = None if before is None else rolefile.read_file(before.data).signed
    if held is not None and not isinstance(held, Snapshot):
        raise TypeError("the stored snapshot is none")
    named = {
        role: version
        for role, version in versions.items()
        if role not in {"root", "snapshot", "timestamp"}
    }
    root = rolefile.read_file(require(session, "root").data).signed
    if not isinstance(root, Root):
        raise TypeError("the stored root is none")
    base = 0 if held is None else held.version
    sign = partial(_sign, session, signer, root, base=base)
    snapshot = sign(repository.make_snapshot(held, named, now_ms))
    store_file(session, "snapshot", snapshot, now_ms)
    last = store.find_newest(session, "timestamp")
    stamp = None if last is None else rolefile.read_file(last.data).signed
    if stamp is not None and not isinstance(stamp, Timestamp):
        raise TypeError("the stored timestamp is none")
    timestamp = sign(repository.make_timestamp(stamp, snapshot, now_ms))
    store_file(session, "timestamp", timestamp, now_ms)
    outbox.put(session, TIMESTAMP, timestamp)


def _sign(
    session: Session,
    signer: Signer,
    root: Root,
    signed: Snapshot | Timestamp,
    *,
    base: int,
) -> bytes:
    """Return the signed file of a snapshot or timestamp.

    A version that was signed before, in a transaction that came to nothing, is passed over.
    """
    key_ids = root.roles[signed.type].keyids

    def ask() -> bytes:
        payload = rolefile.payload_of(signed)
        made = signer.sign_role(signed.type, payload, key_ids, base=base)
        return rolefile.assemble(payload, {made.key_id: made.value.hex()})

    try:
        return taught(session, signer, ask)
    except TakenError as error:
        signed.version = int(str(error.data["version"])) + 1
        return taught(session, signer, ask)
