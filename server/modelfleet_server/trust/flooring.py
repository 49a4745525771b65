"""Proposes the lowest version of a model that devices may install: approvers sign it."""

from sqlmodel import Session

from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.semver import Version
from modelfleet_server.kit.errors import ConflictError, InvalidError, NotFoundError
from modelfleet_server.kit.ids import new_id
from modelfleet_server.trust import store
from modelfleet_server.trust.domain import Kind, State
from modelfleet_server.trust.proposing import (
    Draft,
    check_reason,
    in_force,
    open_proposal,
)
from modelfleet_server.trust.repository import FLOOR
from modelfleet_server.trust.tables import Proposal


def propose_floor(
    session: Session,
    model: str,
    floor: str | None,
    reason: str,
    *,
    actor: str,
    now_ms: int,
) -> Proposal:
    """Propose another floor; a device never installs a version below it.

    Where a lower version runs, it goes on. To lower a floor is to authorise a downgrade: it
    takes as many approvers as a release.

    Args:
        session: Writing.
        model: Such as `demo/digits`.
        floor: A version, or None for no floor.
        reason: For people.
        actor: `str(Actor)`.
        now_ms: Unix milliseconds.

    Raises:
        InvalidError: The floor is no version, or the reason cannot be shown.
        NotFoundError: Nothing of this model was released.
        ConflictError: That is its floor already.
        ProposalPendingError: An open proposal changes the model's role.
    """
    check_reason(reason)
    _check_version(floor)
    if "/" not in model or store.find_newest(session, model) is None:
        raise NotFoundError(
            f"nothing of {model} was released", "See: modelfleet model list.", model=model
        )
    role = in_force(session, model, now_ms)
    before = role.unrecognized_fields.get(FLOOR)
    if before == floor:
        what = f"is {floor} already" if floor else "does not exist"
        raise ConflictError(f"the floor of {model} {what}", model=model)
    role.unrecognized_fields.pop(FLOOR, None)
    if floor is not None:
        role.unrecognized_fields[FLOOR] = floor
    return open_proposal(
        session,
        Draft({model: role}),
        Proposal(
            id=new_id(),
            kind=Kind.FLOOR,
            state=State.OPEN,
            title=f"{model} not below {floor or 'any version'}: {reason}"[:500],
            subject=model,
            proposed_by=actor,
            created_ms=now_ms,
        ),
    )


def _check_version(floor: str | None) -> None:
    try:
        if floor is not None:
            Version(floor)
    except ManifestError as error:
        raise InvalidError(
            f"the floor {floor!r} is no version ({error})", "Write it as 1.2.0, or none."
        ) from None
