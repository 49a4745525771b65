"""Gathers signatures on proposals, and publishes what has enough of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session
from tuf.api.metadata import Root, Targets

from modelfleet_manifests.errors import SignatureError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.release import read_release
from modelfleet_server.audit import service as audit
from modelfleet_server.kit.errors import ConflictError, InvalidError
from modelfleet_server.trust import delegations, rolefile, store
from modelfleet_server.trust.domain import Event, RoleSignature, after
from modelfleet_server.trust.publishing import publish_roles, require
from modelfleet_server.trust.signer.domain import Signer
from modelfleet_server.trust.tables import Proposal, ProposalRole, ProposalSignature

OnClosed = Callable[[Session, Proposal, int], None]
"""Called in the closing transaction with the proposal and the time in Unix ms."""


class BadSignatureError(InvalidError):
    """A signature that does not count."""

    code = "bad-signature"


class ProposalStaleError(ConflictError):
    """What the proposal was made from is no longer in force."""

    code = "proposal-stale"


@dataclass(slots=True)
class Publisher:
    """The online signer, and who wants to know what became of a proposal.

    A part of the server: `app` makes one and registers the catalog with it.
    """

    signer: Signer
    on_closed: list[OnClosed] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a role of a proposal is.

    Attributes:
        missing: How many more signatures it needs.
        key_ids: Of the keys that may sign it.
        signed: Of the keys that did.
    """

    role: str
    missing: int
    threshold: int
    key_ids: tuple[str, ...]
    signed: tuple[str, ...]


def progress(session: Session, proposal_id: str) -> list[Progress]:
    """Return what each role of a proposal still needs, delegating roles first."""
    rows = store.roles_of(session, proposal_id)
    gathered = _gathered(session, proposal_id)
    found = []
    for row in rows:
        judges = _judges(session, row, rows)
        wanted = [delegations.delegated_role(one, row.role) for one in judges]
        signatures = gathered.get(row.role, {})
        groups = _groups(session, row.role, rows)
        found.append(
            Progress(
                row.role,
                max(
                    delegations.missing_signers(
                        one, row.role, row.payload, signatures, groups
                    )
                    for one in judges
                ),
                max(one.threshold for one in wanted),
                tuple(dict.fromkeys(key_id for one in wanted for key_id in one.keyids)),
                tuple(signatures),
            )
        )
    return found


def attach(
    session: Session,
    publisher: Publisher,
    proposal_id: str,
    signatures: Sequence[RoleSignature],
    *,
    actor: str,
    now_ms: int,
) -> Proposal:
    """Add signatures to a proposal, and publish it once every role has enough.

    Adding a signature again changes nothing.

    Raises:
        NotFoundError: There is no such proposal.
        ProposalClosedError: It is published or withdrawn.
        BadSignatureError: A signature is of no key that may sign the role, or does not
            verify; then none of them is added.
        ProposalStaleError: It would publish, and a role has moved on since.
    """
    proposal = store.get_proposal(session, proposal_id)
    after(proposal.state, Event.COMPLETE)
    rows = store.roles_of(session, proposal.id)
    by_role = {row.role: row for row in rows}
    for one in signatures:
        row = by_role.get(one.role)
        if row is None:
            raise BadSignatureError(
                f"the proposal does not change the role {one.role!r}",
                "Fetch the proposal again and sign what is in it.",
                role=one.role,
            )
        _verify(_judges(session, row, rows), row, one)
    for one in signatures:
        _add(session, proposal, one, actor, now_ms)
    session.flush()
    if all(one.missing == 0 for one in progress(session, proposal.id)):
        _publish(session, publisher, proposal, rows, now_ms)
    return proposal


def withdraw(
    session: Session,
    publisher: Publisher,
    proposal_id: str,
    *,
    actor: str,
    now_ms: int,
) -> Proposal:
    """Close a proposal without publishing it.

    Raises:
        NotFoundError: There is no such proposal.
        ProposalClosedError: It is closed already.
    """
    proposal = store.get_proposal(session, proposal_id)
    _close(session, proposal, Event.WITHDRAW, actor, now_ms)
    _tell(session, publisher, proposal, now_ms)
    return proposal


def _verify(
    judges: Sequence[Root | Targets], row: ProposalRole, one: RoleSignature
) -> None:
    wanted = [delegations.delegated_role(judge, row.role) for judge in judges]
    judge = next(
        (
            judge
            for judge, role in zip(judges, wanted, strict=True)
            if one.key_id in role.keyids
        ),
        None,
    )
    if judge is None:
        raise BadSignatureError(
            f"the key {one.key_id[:12]}… may not sign {row.role}",
            f"It takes {wanted[0].threshold} of {len(wanted[0].keyids)} other keys.",
            role=row.role,
            key_id=one.key_id,
        )
    key = PublicKey(judge.get_key(one.key_id).keyval["public"])
    try:
        raw = bytes.fromhex(one.signature)
    except ValueError:
        raw = b""
    try:
        key.verify(row.payload, raw)
    except SignatureError:
        raise BadSignatureError(
            f"the signature of key {one.key_id[:12]}… over {row.role} does not verify",
            "Fetch the proposal again and sign the bytes in it.",
            role=row.role,
            key_id=one.key_id,
        ) from None


def _add(
    session: Session, proposal: Proposal, one: RoleSignature, actor: str, now_ms: int
) -> None:
    if session.get(ProposalSignature, (proposal.id, one.role, one.key_id)) is not None:
        return
    session.add(
        ProposalSignature(
            proposal=proposal.id,
            role=one.role,
            key_id=one.key_id,
            signature=one.signature,
            actor=actor,
            signed_ms=now_ms,
        )
    )
    audit.record(
        session,
        actor,
        "proposal.signed",
        proposal.subject,
        {"proposal": proposal.id, "role": one.role, "key": one.key_id},
        at_ms=now_ms,
    )


def _publish(
    session: Session,
    publisher: Publisher,
    proposal: Proposal,
    rows: Sequence[ProposalRole],
    now_ms: int,
) -> None:
    gathered = _gathered(session, proposal.id)
    for row in rows:
        held = store.find_newest(session, row.role)
        if row.version != (held.version if held else 0) + 1:
            raise ProposalStaleError(
                f"the role {row.role} has moved on to version {held and held.version}",
                "Withdraw the proposal and propose the change again.",
                role=row.role,
            )
    files = {row.role: rolefile.assemble(row.payload, gathered[row.role]) for row in rows}
    targets = store.targets_of(session, proposal.id)
    publish_roles(session, publisher.signer, files, targets, now_ms=now_ms)
    _close(session, proposal, Event.COMPLETE, "system:trust", now_ms)
    _tell(session, publisher, proposal, now_ms)


def _close(
    session: Session, proposal: Proposal, event: Event, actor: str, now_ms: int
) -> None:
    proposal.state = after(proposal.state, event)
    proposal.closed_ms = now_ms
    session.add(proposal)
    session.flush()
    audit.record(
        session,
        actor,
        f"proposal.{proposal.state}",
        proposal.subject,
        {"proposal": proposal.id, "title": proposal.title},
        at_ms=now_ms,
    )


def _tell(session: Session, publisher: Publisher, proposal: Proposal, now_ms: int) -> None:
    for hook in publisher.on_closed:
        hook(session, proposal, now_ms)


def _gathered(session: Session, proposal_id: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for one in store.signatures_of(session, proposal_id):
        found.setdefault(one.role, {})[one.key_id] = one.signature
    return found


def _judges(
    session: Session, row: ProposalRole, rows: Sequence[ProposalRole]
) -> list[Root | Targets]:
    """Return who says which keys sign a role: as proposed here, else as in force.

    A root is judged twice, by the one in force and by itself.
    """
    name = delegations.delegator_of(row.role)
    if name is None:
        return [_in_force(session, "root"), _read(row.payload)]
    proposed = next((one.payload for one in rows if one.role == name), None)
    return [_in_force(session, name) if proposed is None else _read(proposed)]


def _groups(session: Session, role: str, rows: Sequence[ProposalRole]) -> list[list[str]]:
    payload = next((one.payload for one in rows if one.role == "targets"), None)
    targets = _in_force(session, "targets") if payload is None else _read(payload)
    if not isinstance(targets, Targets):
        return []
    groups = delegations.groups_of(targets, role)
    waivers = delegations.waivers_of(targets)
    if waivers and _waives(session, rows[0].proposal, role):
        groups.append(waivers)
    return groups


def _waives(session: Session, proposal_id: str, model: str) -> bool:
    """Say whether a proposal lists a release of `model` with a variant nobody rebuilt."""
    targets = store.targets_of(session, proposal_id)
    releases = [read_release(data) for path, data in targets.items() if data]
    return any(
        variant.vouched == "waived"
        for release in releases
        if release.model == model
        for variant in release.variants
    )


def _in_force(session: Session, role: str) -> Root | Targets:
    return _delegating(rolefile.read_file(require(session, role).data).signed)


def _read(payload: bytes) -> Root | Targets:
    return _delegating(rolefile.parse_signed(payload))


def _delegating(signed: object) -> Root | Targets:
    if not isinstance(signed, Root | Targets):
        raise TypeError("such metadata delegates nothing")
    return signed
