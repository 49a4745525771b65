"""Proposals and recalls over HTTP."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from sqlmodel import Session, select

from modelfleet_manifests.digests import HEX64
from modelfleet_manifests.recalls import MAX_NAME
from modelfleet_server.kit.access import ApproverDep, OperatorDep, ViewerDep
from modelfleet_server.kit.api import NowDep, ReadDep, WriteDep, given
from modelfleet_server.kit.paging import Page, PageDep, fetch_page
from modelfleet_server.trust import expiry, proposals, proposing, recalling, store
from modelfleet_server.trust.ceremony import fleet_id
from modelfleet_server.trust.domain import Kind, RoleSignature, State
from modelfleet_server.trust.proposals import Publisher
from modelfleet_server.trust.tables import Proposal

router = APIRouter(prefix="/api/v1", tags=["trust"])
PublisherDep = Annotated[Publisher, Depends(given(Publisher))]


class ProposalOut(BaseModel):
    """A proposal in a list."""

    id: str
    kind: Kind
    state: State
    title: str
    subject: str
    proposed_by: str
    created_ms: int
    closed_ms: int | None

    @classmethod
    def of(cls, row: Proposal) -> "ProposalOut":
        """Return the answer for a row."""
        return cls(**row.model_dump())


class RoleOut(BaseModel):
    """A role's next metadata: `payload` is, byte for byte, what is signed."""

    role: str
    version: int
    payload: str
    threshold: int
    missing: int
    key_ids: list[str]
    signed: list[str]


class TargetOut(BaseModel):
    """A new target file, as text."""

    path: str
    data: str


class SignatureOut(BaseModel):
    """Who signed what, and when."""

    role: str
    key_id: str
    signature: str
    actor: str
    signed_ms: int


class ProposalDetail(ProposalOut):
    """All of a proposal that an approver needs."""

    roles: list[RoleOut]
    targets: list[TargetOut]
    signatures: list[SignatureOut]


class SignatureIn(BaseModel):
    """A signature over the payload of a role."""

    role: str = Field(max_length=127)
    key_id: str = Field(pattern=HEX64)
    signature: str = Field(pattern=r"^[0-9a-f]{128}$")


class SignaturesIn(BaseModel):
    """Signatures of one approver."""

    signatures: list[SignatureIn] = Field(min_length=1, max_length=64)


class TrustRoleOut(BaseModel):
    """A role in force; `ends_soon`: in 14 days, a root in 90, the server's own in one."""

    role: str
    version: int
    expires_ms: int
    ends_soon: bool


class TrustOut(BaseModel):
    """The fleet's trust metadata; `fleet` is null before the ceremony."""

    fleet: str | None
    epoch: int
    roles: list[TrustRoleOut]


class RecallIn(BaseModel):
    """What is recalled: a release id, the digest of a file, or a range of versions.

    `files` recalls the files of a release too, wherever else they are listed; `unlisted`
    takes a digest that no release lists, or a range that none is in yet.
    """

    name: str = Field(max_length=MAX_NAME)
    reason: str = Field(max_length=proposing.MAX_REASON)
    effect: Literal["revocation", "stop"] = "revocation"
    files: bool = False
    unlisted: bool = False


class RenewalIn(BaseModel):
    """Roles that are to be signed anew before they expire."""

    roles: list[str] = Field(min_length=1, max_length=64)


@router.get("/trust")
def get_trust(session: ReadDep, _actor: ViewerDep, now: NowDep) -> TrustOut:
    """Show the roles in force and when they end."""
    roles = [TrustRoleOut(**one._asdict()) for one in expiry.read_endings(session, now)]
    return TrustOut(fleet=fleet_id(session), epoch=store.read_epoch(session), roles=roles)


@router.get("/proposals")
def get_proposals(
    session: ReadDep, _actor: ViewerDep, ask: PageDep, state: State | None = None
) -> Page[ProposalOut]:
    """List proposals, newest first."""
    statement = select(Proposal)
    if state is not None:
        statement = statement.where(Proposal.state == state)
    keys = [Proposal.created_ms, Proposal.id]
    rows, after = fetch_page(session, statement, keys, ask, newest_first=True)
    return Page(items=[ProposalOut.of(row) for row in rows], next=after)


@router.get("/proposals/{proposal_id}")
def get_proposal(proposal_id: str, session: ReadDep, _actor: ViewerDep) -> ProposalDetail:
    """Show a proposal with the bytes to sign."""
    return detail_of(session, store.get_proposal(session, proposal_id))


@router.post("/proposals/{proposal_id}/signatures")
def post_signatures(
    proposal_id: str,
    wish: SignaturesIn,
    session: WriteDep,
    actor: ApproverDep,
    publisher: PublisherDep,
    now: NowDep,
) -> ProposalDetail:
    """Add signatures; what has enough of them is published at once."""
    given_ones = [RoleSignature(**one.model_dump()) for one in wish.signatures]
    proposal = proposals.attach(
        session, publisher, proposal_id, given_ones, actor=str(actor), now_ms=now
    )
    return detail_of(session, proposal)


@router.post("/proposals/{proposal_id}/withdraw")
def post_withdraw(
    proposal_id: str,
    session: WriteDep,
    actor: OperatorDep,
    publisher: PublisherDep,
    now: NowDep,
) -> ProposalOut:
    """Close a proposal unpublished."""
    proposal = proposals.withdraw(
        session, publisher, proposal_id, actor=str(actor), now_ms=now
    )
    return ProposalOut.of(proposal)


@router.post("/revocations", status_code=HTTPStatus.CREATED)
def post_revocation(
    wish: RecallIn, session: WriteDep, actor: OperatorDep, now: NowDep
) -> ProposalDetail:
    """Propose a tombstone; it holds once enough approvers signed it."""
    what = recalling.find_recalled(
        session, wish.name, allow_unlisted=wish.unlisted, with_files=wish.files
    )
    proposal = recalling.propose_recall(
        session, Kind(wish.effect), what, wish.reason, actor=str(actor), now_ms=now
    )
    return detail_of(session, proposal)


@router.post("/renewals", status_code=HTTPStatus.CREATED)
def post_renewal(
    wish: RenewalIn, session: WriteDep, actor: OperatorDep, now: NowDep
) -> ProposalDetail:
    """Propose roles as they are with a new life."""
    proposal = proposing.propose_renewal(session, wish.roles, actor=str(actor), now_ms=now)
    return detail_of(session, proposal)


def detail_of(session: Session, row: Proposal) -> ProposalDetail:
    """Return all of a proposal that an approver needs."""
    # of a closed proposal the delegating roles have moved on: nothing is missing any more
    states = (
        {one.role: one for one in proposals.progress(session, row.id)}
        if row.state is State.OPEN
        else {}
    )
    signatures = store.signatures_of(session, row.id)
    roles = [
        RoleOut(
            role=one.role,
            version=one.version,
            payload=one.payload.decode(),
            threshold=states[one.role].threshold if states else 0,
            missing=states[one.role].missing if states else 0,
            key_ids=list(states[one.role].key_ids) if states else [],
            signed=[sig.key_id for sig in signatures if sig.role == one.role],
        )
        for one in store.roles_of(session, row.id)
    ]
    return ProposalDetail(
        **row.model_dump(),
        roles=roles,
        targets=[
            TargetOut(path=path, data=data.decode())
            for path, data in store.targets_of(session, row.id).items()
        ],
        signatures=[
            SignatureOut(
                role=one.role,
                key_id=one.key_id,
                signature=one.signature,
                actor=one.actor,
                signed_ms=one.signed_ms,
            )
            for one in signatures
        ],
    )
