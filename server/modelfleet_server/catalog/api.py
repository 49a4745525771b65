"""Models, versions, releases and channels over HTTP; deltas for devices."""

from http import HTTPStatus
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field
from sqlmodel import Session, select

from modelfleet_manifests.digests import HEX64
from modelfleet_manifests.release import Demands
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.catalog import channels, deltas, lifecycle, versions
from modelfleet_server.catalog.details import VersionDetail, VersionOut, detail_of
from modelfleet_server.catalog.domain import State
from modelfleet_server.catalog.tables import Channel, ModelVersion
from modelfleet_server.catalog.vouching import Vouched
from modelfleet_server.catalog.workshop import Workshop
from modelfleet_server.kit.access import OperatorDep, ViewerDep
from modelfleet_server.kit.api import DatabaseDep, NowDep, ReadDep, WriteDep, given
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import NotFoundError
from modelfleet_server.kit.paging import Page, PageDep, fetch_page

public = APIRouter(tags=["deltas"])
router = APIRouter(prefix="/api/v1", tags=["catalog"])

WorkshopDep = Annotated[Workshop, Depends(given(Workshop))]
BlobsDep = Annotated[BlobStore, Depends(given(BlobStore))]


def _model(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"


class Makers(NamedTuple):
    """What making a version takes."""

    database: Database
    workshop: Workshop
    blobs: BlobStore


def _makers(database: DatabaseDep, workshop: WorkshopDep, blobs: BlobsDep) -> Makers:
    return Makers(database, workshop, blobs)


ModelDep = Annotated[str, Depends(_model)]
MakersDep = Annotated[Makers, Depends(_makers)]
Digest = Annotated[str, Field(pattern=HEX64)]
DigestPath = Annotated[str, Path(pattern=HEX64)]


class DemandsIn(BaseModel):
    """What a device must see before it keeps the release; what is left out is default."""

    self_test_ms: int = Field(default=60_000, ge=100, le=3_600_000)
    trial_ms: int = Field(default=2_000, ge=0, le=86_400_000)
    trial_errors: int = Field(default=0, ge=0, le=1000)


Words = Annotated[dict[str, Vouched], Field(max_length=64)]


class VersionIn(BaseModel):
    """A version to make; its blobs are uploaded already."""

    version: str = Field(max_length=64)
    master: Digest
    evaluation: Digest
    calibration: Digest | None = None
    lineage: dict[str, Any]
    profiles: list[str] | None = Field(default=None, min_length=1, max_length=32)
    slots: list[str] | None = None
    rollback_to: list[str] | None = None
    demands: DemandsIn = DemandsIn()
    vouched: Words = {}


class ProposeIn(BaseModel):
    """How approvers vouch for variants by name (`*`: all others) from now on."""

    vouched: Words = {}


class ChannelIn(BaseModel):
    """What a channel is to name."""

    version: str = Field(max_length=64)


class MoveOut(BaseModel):
    """One step of a channel's history."""

    number: int
    version: str
    actor: str
    moved_ms: int


class ChannelOut(BaseModel):
    """A channel and where it pointed, oldest first."""

    name: str
    version: str
    moved_ms: int
    history: list[MoveOut]


class DeltaOut(BaseModel):
    """A patch: its blob, its bytes, its method, and the bytes that applying it needs."""

    blob: str
    length: int
    method: str
    memory: int


@public.get("/deltas/{new}/{old}")
def get_delta(new: DigestPath, old: DigestPath, session: ReadDep) -> DeltaOut:
    """Say by which patch the file `old` becomes the file `new`."""
    offer = deltas.find_delta(session, new, old)
    if offer is None:
        raise NotFoundError("there is no delta between these files", new=new, old=old)
    return DeltaOut(
        blob=offer.blob, length=offer.length, method=offer.method, memory=offer.memory
    )


@router.post("/models/{namespace}/{name}/versions", status_code=HTTPStatus.CREATED)
def post_version(
    model: ModelDep, wish: VersionIn, makers: MakersDep, actor: OperatorDep, now: NowDep
) -> VersionDetail:
    """Make a version and ask for its variants."""
    database, workshop, blobs = makers
    with database.read() as session:
        versions.check_new(session, model, wish.version)
    versions.check_blobs(blobs, master=wish.master, evaluation=wish.evaluation)
    schema = workshop.inspect(wish.master)  # takes seconds: no transaction is open
    new = versions.NewVersion(
        model=model,
        version=wish.version,
        master=wish.master,
        evaluation=wish.evaluation,
        calibration=wish.calibration,
        lineage=wish.lineage,
        schema=schema,
        profiles=wish.profiles or workshop.profiles,
        slots=wish.slots,
        rollback_to=wish.rollback_to,
        demands=Demands(**wish.demands.model_dump()),
        vouched=wish.vouched,
    )
    with database.write() as session:
        row = versions.create_version(session, blobs, new, actor=str(actor), now_ms=now)
        workshop.queue(session, row.id, list(new.profiles), actor=str(actor), at_ms=now)
        return detail_of(session, row)


@router.get("/releases")
def get_releases(
    session: ReadDep,
    _actor: ViewerDep,
    ask: PageDep,
    model: str | None = None,
    state: State | None = None,
) -> Page[VersionOut]:
    """List versions in every state, newest first."""
    statement = select(ModelVersion)
    if model is not None:
        statement = statement.where(ModelVersion.model == model)
    if state is not None:
        statement = statement.where(ModelVersion.state == state)
    keys = [ModelVersion.created_ms, ModelVersion.id]
    rows, after = fetch_page(session, statement, keys, ask, newest_first=True)
    return Page(items=[VersionOut.of(row) for row in rows], next=after)


@router.get("/releases/{namespace}/{name}/{version}")
def get_release(
    model: ModelDep, version: str, session: ReadDep, _actor: ViewerDep
) -> VersionDetail:
    """Show a version with its variants, metrics, lineage and approvals."""
    row = versions.require_version(session, model, version)
    return detail_of(session, row)


@router.post("/releases/{namespace}/{name}/{version}/propose")
def post_proposal(
    model: ModelDep,
    version: str,
    session: WriteDep,
    actor: OperatorDep,
    now: NowDep,
    wish: ProposeIn | None = None,
) -> VersionDetail:
    """Propose a built version again, after its proposal was withdrawn."""
    row = versions.require_version(session, model, version)
    words = wish.vouched if wish else None
    lifecycle.propose(session, row.id, actor=str(actor), now_ms=now, vouched=words)
    return detail_of(session, row)


@router.get("/models/{namespace}/{name}/channels")
def get_channels(model: ModelDep, session: ReadDep, _actor: ViewerDep) -> list[ChannelOut]:
    """List the channels of a model with their history."""
    found = channels.channels_of(session, model)
    return [_channel(session, one) for one in found]


@router.put("/models/{namespace}/{name}/channels/{channel}")
def put_channel(
    model: ModelDep,
    channel: str,
    wish: ChannelIn,
    session: WriteDep,
    actor: OperatorDep,
    now: NowDep,
) -> ChannelOut:
    """Let a channel name a released version."""
    moved = channels.move_channel(
        session,
        model,
        channel,
        wish.version,
        actor=str(actor),
        now_ms=now,
    )
    return _channel(session, moved)


def _channel(session: Session, row: Channel) -> ChannelOut:
    moves = channels.history_of(session, row.model, row.name)
    return ChannelOut(
        name=row.name,
        version=row.version,
        moved_ms=row.moved_ms,
        history=[
            MoveOut(**one.model_dump(include=set(MoveOut.model_fields))) for one in moves
        ],
    )
