"""Proposes other keys, and the end of a recall: what officers and custodians decide."""

from sqlmodel import Session
from tuf.api.metadata import Root, Targets

from modelfleet_server.kit.errors import ConflictError, NotFoundError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust import keyplan, repository, rolefile, store
from modelfleet_server.trust.domain import Kind, State
from modelfleet_server.trust.keyplan import Held, KeyPlan
from modelfleet_server.trust.proposing import (
    Draft,
    check_reason,
    in_force,
    open_proposal,
)
from modelfleet_server.trust.publishing import require
from modelfleet_server.trust.recalling import RECALL_ROLE, Recalled
from modelfleet_server.trust.tables import Proposal


def propose_keys(
    session: Session, plan: KeyPlan, reason: str, *, actor: str, now_ms: int
) -> Proposal:
    """Propose other keys for some roles.

    Also renews them: name a role with the keys that it has. A new root is signed by those
    that the root in force asks for, and by those that it asks for itself.

    Raises:
        InvalidError: The plan is not well-formed, or the reason cannot be shown.
        ProposalPendingError: An open proposal changes one of the roles.
        NoFleetError: No ceremony was held.
    """
    check_reason(reason)
    roles = keyplan.compose(read_held(session), plan, now_ms)
    return open_proposal(
        session,
        Draft(dict(roles)),
        Proposal(
            id=new_id(),
            kind=Kind.KEYS,
            state=State.OPEN,
            title=f"{keyplan.describe(plan)} ({reason})"[:500],
            subject="keys",
            proposed_by=actor,
            created_ms=now_ms,
        ),
    )


def propose_pardon(
    session: Session,
    kind: Kind,
    what: Recalled,
    reason: str,
    *,
    actor: str,
    now_ms: int,
) -> Proposal:
    """Propose that a tombstone does not count any more; only officers can sign that.

    Args:
        session: Writing.
        kind: `REVOCATION` or `STOP`: which of the two lists.
        what: From `find_recalled`.
        reason: For people.
        actor: `str(Actor)`.
        now_ms: Unix milliseconds.

    Raises:
        NotFoundError: It is not recalled.
        ConflictError: It is pardoned already.
        ProposalPendingError: An open proposal changes the top-level targets.
    """
    check_reason(reason)
    role = RECALL_ROLE[kind]
    listed = in_force(session, role, now_ms).targets
    paths = what.paths(role)
    if paths[0] not in listed:
        raise NotFoundError(f"{what.words} is not in the list of {role}", path=paths[0])
    officers = in_force(session, "targets", now_ms)
    pardons: list[str] = officers.unrecognized_fields.setdefault(repository.UNREVOKE, [])
    anew = [path for path in paths if path in listed and path not in pardons]
    if not anew:
        raise ConflictError(f"{what.words} is pardoned already", path=paths[0])
    pardons += anew
    return open_proposal(
        session,
        Draft({"targets": officers}),
        Proposal(
            id=new_id(),
            kind=Kind.PARDON,
            state=State.OPEN,
            title=f"allow again {what.words}: {reason}",
            subject=what.name,
            proposed_by=actor,
            created_ms=now_ms,
        ),
    )


def read_held(session: Session) -> Held:
    """Return the metadata in force of all roles that people sign.

    Raises:
        NoFleetError: No ceremony was held.
    """
    root = rolefile.read_file(require(session, "root").data).signed
    targets = rolefile.read_file(require(session, "targets").data).signed
    if not isinstance(root, Root) or not isinstance(targets, Targets):
        raise TypeError("the stored root or targets are none")
    own = {"root", "targets", "snapshot", "timestamp"}
    roles = {
        row.role: rolefile.read_file(row.data).signed
        for row in store.newest_of_all(session)
        if row.role not in own
    }
    return Held(root, targets, roles)
