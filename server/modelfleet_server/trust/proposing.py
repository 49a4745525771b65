"""Composes proposals: the next metadata of every role that a change touches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session
from tuf.api.metadata import Root, Targets

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.names import check_name, release_path, split_model
from modelfleet_manifests.release import Release, read_release, write_release
from modelfleet_server.audit import service as audit
from modelfleet_server.kit.errors import ConflictError, InvalidError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust import delegations, repository, rolefile, store
from modelfleet_server.trust.domain import Event, Kind, State, after
from modelfleet_server.trust.publishing import require
from modelfleet_server.trust.tables import Proposal, ProposalRole, ProposalTarget

MAX_REASON = 200


class ProposalPendingError(ConflictError):
    """Another open proposal changes the same role: one after the other."""

    code = "proposal-pending"


class ReleaseExistsError(ConflictError):
    """The version is signed already: versions never change."""

    code = "release-exists"


@dataclass(slots=True)
class Draft:
    """The next metadata of some roles, composed from what is in force.

    Attributes:
        roles: By name, in the order in which they delegate.
        targets: New target files by path.
    """

    roles: dict[str, Root | Targets] = field(default_factory=dict)
    targets: dict[str, bytes] = field(default_factory=dict)


def propose_release(
    session: Session, release: Release, *, slots: Sequence[str], actor: str, now_ms: int
) -> Proposal:
    """Propose to list a release.

    Delegates its namespace and its model where they are new, and lets `slots` hold the
    model with its schema.

    Args:
        session: Writing.
        release: The statement.
        slots: Names of the slots that may hold it, at least one.
        actor: `str(Actor)`.
        now_ms: Unix milliseconds.

    Raises:
        ReleaseExistsError: The version is listed already.
        ProposalPendingError: An open proposal changes the same roles.
        ManifestError: The statement is not well-formed, or a slot has no proper name.
        NoFleetError: No ceremony was held.
    """
    data = write_release(release)
    read_release(data)  # structs are not checked when made: devices would refuse it
    namespace, _ = split_model(release.model)
    if not slots:
        raise InvalidError(f"no slot may hold {release.model}", "Name at least one slot.")
    officers = in_force(session, "targets", now_ms)
    changed = [
        repository.add_slot_rule(
            officers, check_name(slot, "slot"), release.model, release.schema.digest
        )
        for slot in slots
    ]
    draft = Draft()
    if not delegations.is_delegated(officers, namespace):
        delegations.delegate_namespace(
            officers, namespace, delegations.namespace_keys(officers)
        )
        changed.append(True)
    if any(changed):
        draft.roles["targets"] = officers
    models = _next(session, namespace, now_ms)
    if not delegations.is_delegated(models, release.model):
        keys = delegations.keys_of(officers, namespace)
        delegations.delegate_model(models, release.model, keys)
        draft.roles[namespace] = models
    _add_release(session, draft, release, data, now_ms)
    subject = f"{release.model}@{release.version}"
    return open_proposal(
        session,
        draft,
        Proposal(
            id=new_id(),
            kind=Kind.RELEASE,
            state=State.OPEN,
            title=f"release {release.model} {release.version} for {', '.join(slots)}",
            subject=subject,
            proposed_by=actor,
            created_ms=now_ms,
        ),
    )


def propose_renewal(
    session: Session, roles: Sequence[str], *, actor: str, now_ms: int
) -> Proposal:
    """Propose roles as they are, with a new life, before they expire.

    Raises:
        NoFleetError: A role is not there.
        InvalidError: A role is one that the server signs by itself, or the root.
        ProposalPendingError: An open proposal changes one of the roles.
    """
    for role in roles:
        if role in {"root", "snapshot", "timestamp"}:
            raise InvalidError(f"the role {role!r} is not renewed by a proposal")
    names = ", ".join(roles)
    return open_proposal(
        session,
        Draft({role: in_force(session, role, now_ms) for role in roles}),
        Proposal(
            id=new_id(),
            kind=Kind.RENEWAL,
            state=State.OPEN,
            title=f"renew {names}"[:500],
            subject=names[:255],
            proposed_by=actor,
            created_ms=now_ms,
        ),
    )


def check_reason(reason: str) -> None:
    """Return if a reason may be signed.

    Raises:
        InvalidError: It is empty, too long or not printable.
    """
    # `isprintable` also refuses what turns the direction of writing
    if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
        raise InvalidError(
            f"the reason {reason!r} cannot be signed",
            f"Write 1 to {MAX_REASON} printable characters.",
        )


def in_force(session: Session, role: str, now_ms: int) -> Targets:
    """Return the next version of a role as it is in force.

    Raises:
        NoFleetError: It is not there.
    """
    signed = rolefile.read_file(require(session, role).data).signed
    return repository.advance(_targets(signed, role), role, now_ms)


def _next(session: Session, role: str, now_ms: int) -> Targets:
    if store.find_newest(session, role) is None:
        return repository.make_empty(role, now_ms)
    return in_force(session, role, now_ms)


def _targets(signed: object, role: str) -> Targets:
    if not isinstance(signed, Targets):
        raise TypeError(f"the stored metadata of {role} is no targets role")
    return signed


def _add_release(
    session: Session, draft: Draft, release: Release, data: bytes, now_ms: int
) -> None:
    listed = _next(session, release.model, now_ms)
    path = release_path(release.model, release.version)
    if path in listed.targets:
        raise ReleaseExistsError(
            f"{release.model} {release.version} is released already",
            "Versions never change: publish a higher one.",
            release=listed.targets[path].hashes["sha256"],
        )
    repository.add_target(listed, path, data)
    draft.roles[release.model] = listed
    draft.targets[path] = data


def open_proposal(session: Session, draft: Draft, proposal: Proposal) -> Proposal:
    """Store a proposal with its roles and targets.

    Raises:
        ProposalPendingError: An open proposal changes one of the roles.
    """
    _make_way(session, draft.roles, proposal)
    session.add(proposal)
    session.flush()
    for place, (role, signed) in enumerate(draft.roles.items()):
        session.add(
            ProposalRole(
                proposal=proposal.id,
                role=role,
                place=place,
                version=signed.version,
                payload=canonical(signed.to_dict()),
            )
        )
    for path, data in draft.targets.items():
        session.add(ProposalTarget(proposal=proposal.id, path=path, data=data))
    session.flush()
    audit.record(
        session,
        proposal.proposed_by,
        "proposal.opened",
        proposal.subject,
        {
            "proposal": proposal.id,
            "title": proposal.title,
            "targets": {path: sha256(data) for path, data in draft.targets.items()},
        },
        at_ms=proposal.created_ms,
    )
    return proposal


def _make_way(session: Session, roles: Mapping[str, Root | Targets], new: Proposal) -> None:
    """Withdraw renewals of the same roles, which come again; refuse beside others."""
    pending = store.open_proposals(session, roles.keys())
    if all(one.kind is Kind.RENEWAL for one in pending) and new.kind is not Kind.RENEWAL:
        for one in pending:
            _give_way(session, one, new)
        return
    if pending:
        first = pending[0]
        raise ProposalPendingError(
            f"the proposal {first.id} ({first.title}) changes the same roles",
            "Approve or withdraw it first.",
            proposal=first.id,
        )


def _give_way(session: Session, renewal: Proposal, new: Proposal) -> None:
    renewal.state = after(renewal.state, Event.WITHDRAW)
    renewal.closed_ms = new.created_ms
    session.add(renewal)
    session.flush()
    audit.record(
        session,
        new.proposed_by,
        "proposal.withdrawn",
        renewal.subject,
        {"proposal": renewal.id, "title": renewal.title, "for": new.title},
        at_ms=new.created_ms,
    )
