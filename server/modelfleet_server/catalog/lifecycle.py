"""From built to proposed, released, revoked; every step follows the table in `domain`."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlmodel import Session, col, select

from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.recalls import read_range
from modelfleet_manifests.release import (
    Demands,
    File,
    Release,
    Schema,
    Variant,
    release_ref,
    write_release,
)
from modelfleet_manifests.semver import Version
from modelfleet_server.audit import service as audit
from modelfleet_server.catalog.domain import SIGNED, Event, State, VersionStateError, after
from modelfleet_server.catalog.numbering import Fit, fit
from modelfleet_server.catalog.releases import (
    find_release,
    released_versions,
    releases_by_id,
)
from modelfleet_server.catalog.tables import ModelVersion
from modelfleet_server.catalog.versions import (
    MAX_ROLLBACK,
    get_version,
    name_of,
    slots_of,
    variants_of,
)
from modelfleet_server.catalog.vouching import add_words
from modelfleet_server.kit.access import system
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust.domain import Kind
from modelfleet_server.trust.domain import State as ProposalState
from modelfleet_server.trust.proposing import ProposalPendingError, propose_release
from modelfleet_server.trust.publishing import NoFleetError
from modelfleet_server.trust.tables import Proposal

log = logging.getLogger(__name__)

MODES = ("active",)
RECALLS = frozenset({Kind.REVOCATION, Kind.STOP})
CATALOG = str(system("catalog"))


class IncompleteError(InvalidError):
    """The version lacks variants that were asked for."""

    code = "version-incomplete"


@dataclass(frozen=True, slots=True)
class Step:
    """What is done to a version.

    Attributes:
        event: In the table of `domain`.
        actor: `str(Actor)`.
        now_ms: Unix milliseconds.
        reason: In words, "" where the state says all.
    """

    event: Event
    actor: str
    now_ms: int
    reason: str = ""


def assemble_release(session: Session, version_id: str) -> Release:
    """Return the statement that would be signed for a version, from its present variants.

    Raises:
        NotFoundError: There is no such version.
        IncompleteError: A variant that was asked for is missing.
        ManifestError: The statement would be too large, or names are used twice.
    """
    row = get_version(session, version_id)
    variants = variants_of(session, version_id)
    missing = sorted(set(json.loads(row.profiles_json)) - {one.profile for one in variants})
    if missing or not variants:
        raise IncompleteError(
            f"{name_of(row)} has no variant yet for {', '.join(missing) or 'any profile'}",
            "Wait until it is built; see: modelfleet release show.",
            missing=missing,
        )
    release = Release(
        model=row.model,
        version=row.version,
        master=File(name="master.onnx", digest=row.master, length=row.master_length),
        lineage=row.lineage,
        schema=msgspec.json.decode(row.tensors_json, type=Schema),
        modes=list(MODES),
        demands=msgspec.json.decode(row.demands_json, type=Demands),
        rollback_to=rollback_to(session, row),
        variants=variants,
    )
    write_release(release)
    return release


def finish_building(session: Session, version_id: str, *, now_ms: int) -> None:
    """Note that all variants are there, and propose the version if that is possible now.

    Another open proposal of the same roles is no failure: the version waits as `built`
    and is proposed when that one is closed.

    Raises:
        NotFoundError: There is no such version.
        IncompleteError: A variant that was asked for is missing.
        VersionStateError: It was not being built.
    """
    assemble_release(session, version_id)
    move(session, get_version(session, version_id), Step(Event.FINISH, CATALOG, now_ms))
    _propose_if_free(session, version_id, now_ms)


def fail_building(session: Session, version_id: str, reason: str, *, now_ms: int) -> None:
    """Note that a variant could not be built.

    Raises:
        NotFoundError: There is no such version.
        VersionStateError: It was not being built.
    """
    step = Step(Event.FAIL, CATALOG, now_ms, reason)
    move(session, get_version(session, version_id), step)


def retry_building(session: Session, version_id: str, *, actor: str, now_ms: int) -> None:
    """Note that a failed version is being built again.

    Raises:
        NotFoundError: There is no such version.
        VersionStateError: It has not failed.
    """
    move(session, get_version(session, version_id), Step(Event.RETRY, actor, now_ms))


def propose(
    session: Session,
    version_id: str,
    *,
    actor: str,
    now_ms: int,
    vouched: Mapping[str, str] | None = None,
) -> Proposal:
    """Propose a built version to the approvers.

    Args:
        session: Writing.
        version_id: Of the version.
        actor: `str(Actor)`.
        now_ms: Unix milliseconds.
        vouched: Other words than before on how approvers vouch for its variants.

    Raises:
        NotFoundError: There is no such version, or no fleet.
        VersionStateError: It is not built, or proposed already.
        ProposalPendingError: Another proposal changes the same roles.
    """
    row = get_version(session, version_id)
    after(row.state, Event.PROPOSE)
    add_words(row, vouched or {})
    release = assemble_release(session, version_id)
    proposal = propose_release(
        session, release, slots=slots_of(row), actor=actor, now_ms=now_ms
    )
    row.proposal, row.release = proposal.id, release_ref(release).id
    move(session, row, Step(Event.PROPOSE, actor, now_ms))
    return proposal


def fit_of(session: Session, row: ModelVersion, made: Sequence[Variant]) -> Fit:
    """Return whether a version's number fits what changed since the release below it.

    Args:
        session: To read with.
        row: Of the version.
        made: Its variants.
    """
    lower = [
        version
        for version in released_versions(session, row.model)
        if Version(version) < Version(row.version)
    ]
    before = find_release(session, row.model, lower[-1])[1] if lower else None
    schema = msgspec.json.decode(row.tensors_json, type=Schema)
    return fit(before, row.version, schema, made)


def rollback_to(session: Session, row: ModelVersion) -> list[str]:
    """Return the lower versions that a device may return to from this one.

    What was signed; before that, what was asked for, or all that are released now.
    """
    if row.state in SIGNED:
        found = releases_by_id(session, [row.release]).get(row.release)
        if found is not None:
            return found.rollback_to
    if row.rollback_json is not None:
        chosen: list[str] = json.loads(row.rollback_json)
        return chosen
    lower = [
        version
        for version in released_versions(session, row.model)
        if Version(version) < Version(row.version)
    ]
    return lower[-MAX_ROLLBACK:]


def on_closed(session: Session, proposal: Proposal, now_ms: int) -> None:
    """Follow what became of a proposal; then propose what waited for it.

    Register it with `Publisher.on_closed`.
    """
    if proposal.kind is Kind.RELEASE:
        _follow_release(session, proposal, now_ms)
    elif proposal.kind in RECALLS and proposal.state is ProposalState.PUBLISHED:
        _follow_recall(session, proposal, now_ms)
    waiting = session.exec(
        select(ModelVersion)
        .where(ModelVersion.state == State.BUILT)
        .order_by(col(ModelVersion.created_ms), col(ModelVersion.id))
    ).all()
    for row in waiting:
        # a withdrawn version waits for a person
        if row.proposal == "":
            _propose_if_free(session, row.id, now_ms)


def move(session: Session, row: ModelVersion, step: Step) -> None:
    """Bring a version to the state that follows, and audit it.

    Raises:
        VersionStateError: The table does not have it.
    """
    before = row.state
    row.state, row.reason = after(row.state, step.event), step.reason[:500]
    session.add(row)
    session.flush()
    detail = {"id": row.id, "from": before, "to": row.state, "reason": row.reason}
    subject = name_of(row)
    audit.record(session, step.actor, "version.moved", subject, detail, at_ms=step.now_ms)


def _propose_if_free(session: Session, version_id: str, now_ms: int) -> None:
    row = get_version(session, version_id)
    try:
        propose(session, version_id, actor=row.created_by, now_ms=now_ms)
    except (ProposalPendingError, NoFleetError) as error:
        row.reason = error.what[:500]
        session.add(row)
        session.flush()


def _follow_release(session: Session, proposal: Proposal, now_ms: int) -> None:
    row = session.exec(
        select(ModelVersion).where(ModelVersion.proposal == proposal.id)
    ).first()
    if row is None:
        return  # proposed by hand, not from the catalog
    if proposal.state is ProposalState.PUBLISHED:
        row.released_ms = now_ms
        move(session, row, Step(Event.PUBLISH, CATALOG, now_ms))
    else:
        row.release = ""
        move(session, row, Step(Event.WITHDRAW, CATALOG, now_ms, "withdrawn"))


def _follow_recall(session: Session, proposal: Proposal, now_ms: int) -> None:
    # none where it is a file, or a release from before this catalog
    for row in _recalled(session, proposal.subject):
        try:
            move(session, row, Step(Event.REVOKE, CATALOG, now_ms, proposal.title))
        except VersionStateError:
            log.warning("%s is recalled while it is %s", name_of(row), row.state)


def _recalled(session: Session, name: str) -> Sequence[ModelVersion]:
    """Return the versions that the name of a tombstone recalls."""
    if is_digest(name):
        named = select(ModelVersion).where(ModelVersion.release == name)
        return session.exec(named).all()
    versions = read_range(name)
    rows = session.exec(
        select(ModelVersion).where(
            ModelVersion.model == versions.model, col(ModelVersion.release) != ""
        )
    )
    return [row for row in rows if versions.covers(row.model, row.version)]
