"""Routes for rollouts, deployments and rollbacks."""

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlmodel import Session, col, select

from modelfleet_server.deltas import service as deltas
from modelfleet_server.kit.access import Actor, OperatorDep, ViewerDep
from modelfleet_server.kit.api import (
    NowDep,
    ReadDep,
    WriteDep,
    WriterDatabaseDep,
    given,
)
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.kit.paging import Page, PageDep, fetch_page
from modelfleet_server.rollouts import drafts, service
from modelfleet_server.rollouts.domain import Event, State, parse_wave
from modelfleet_server.rollouts.drafts import Wish
from modelfleet_server.rollouts.gate import Gate
from modelfleet_server.rollouts.rollback import roll_back
from modelfleet_server.rollouts.tables import Rollout, RolloutWave
from modelfleet_server.trust.director import Director

router = APIRouter(prefix="/api/v1", tags=["rollouts"])
DirectorDep = Annotated[Director, Depends(given(Director))]


class GateIn(BaseModel):
    """A gate; shares in thousandths."""

    min_labelled: int = Field(default=200, ge=0, le=10_000_000)
    max_drop: int = Field(default=50, ge=0, le=1000)
    max_errors: int = Field(default=10, ge=0, le=1000)
    max_failed: int = Field(default=0, ge=0)
    deadline_ms: int = Field(default=600_000, ge=1000)
    undo: bool = True


class TargetIn(BaseModel):
    """Which release goes where."""

    group: str
    slot: str
    model: str
    version: str
    skip_missing: bool = False


class RolloutIn(TargetIn):
    """A rollout; `gate` null widens as soon as a wave is through."""

    waves: list[str] = Field(default=["canary", "50%", "all"], min_length=1, max_length=32)
    gate: GateIn | None = Field(default_factory=GateIn)
    start: bool = False


class MoveIn(BaseModel):
    """A move that a person may make."""

    event: Literal[Event.START, Event.PAUSE, Event.RESUME, Event.UNDO]
    reason: str = Field(default="", max_length=500)


class WaveOut(BaseModel):
    """A wave that went out, and what its gate says."""

    number: int
    text: str
    admitted: int
    started_ms: int
    decided_ms: int | None
    outcome: str
    reason: str
    evidence: dict[str, float | int | None]


class RolloutOut(BaseModel):
    """A rollout."""

    id: str
    group: str
    slot: str
    release: str
    model: str
    version: str
    state: State
    wave: int
    waves: list[str]
    gate: GateIn | None
    reason: str
    step: str
    created_by: str
    created_ms: int
    changed_ms: int
    progress: list[WaveOut]


class ShareOut(BaseModel):
    """What one device would get; lengths in bytes."""

    device: str
    profile: str
    variant: str
    runs: str
    method: str
    length: int
    full: int


class LeftOutOut(BaseModel):
    """A member that would get nothing."""

    device: str
    reason: str


class PlanOut(BaseModel):
    """What a rollout would do; `waves` counts devices after each wave.

    `preparing`: deltas are being made, so `length` may get less.
    """

    devices: list[ShareOut]
    left_out: list[LeftOutOut]
    waves: list[int]
    length: int
    preparing: bool


class ReturnOut(BaseModel):
    """A rollback: who goes back, and who may not."""

    rollout: RolloutOut
    devices: int
    stay: list[str]


@router.post("/rollouts/plan")
def post_plan(
    wish: RolloutIn, database: WriterDatabaseDep, actor: ViewerDep, now: NowDep
) -> PlanOut:
    """Show what a rollout would do; deltas that it could use are asked for."""
    with database.read() as session:
        made = drafts.preview(session, _wish(wish))
        ref, lacks = drafts.find_lacking(session, _wish(wish), made)
    if lacks:
        with database.write() as session:
            deltas.request(session, ref, actor=str(actor), at_ms=now)
    with database.read() as session:
        preparing = deltas.is_pending(session, ref.id)
    return PlanOut(
        devices=[ShareOut.model_validate(one, from_attributes=True) for one in made.shares],
        left_out=[
            LeftOutOut.model_validate(one, from_attributes=True) for one in made.left_out
        ],
        waves=list(made.waves),
        length=made.length,
        preparing=preparing,
    )


@router.post("/rollouts", status_code=201)
def post_rollout(
    wish: RolloutIn,
    session: WriteDep,
    actor: OperatorDep,
    director: DirectorDep,
    now: NowDep,
) -> RolloutOut:
    """Make a rollout, and start it where `start` says so."""
    rollout = drafts.create(session, _wish(wish), actor, now_ms=now)
    if wish.start:
        service.start(session, director, rollout, actor, now_ms=now)
    return out(session, rollout)


@router.get("/rollouts")
def get_rollouts(
    session: ReadDep,
    _actor: ViewerDep,
    ask: PageDep,
    state: Annotated[State | None, Query()] = None,
) -> Page[RolloutOut]:
    """List rollouts, newest first."""
    statement = select(Rollout)
    if state is not None:
        statement = statement.where(Rollout.state == state)
    rows, cursor = fetch_page(
        session, statement, [Rollout.created_ms, Rollout.id], ask, newest_first=True
    )
    return Page(items=[out(session, row) for row in rows], next=cursor)


@router.get("/rollouts/{rollout_id}")
def get_rollout(rollout_id: str, session: ReadDep, _actor: ViewerDep) -> RolloutOut:
    """Show a rollout with its waves."""
    return out(session, service.find_rollout(session, rollout_id))


@router.post("/rollouts/{rollout_id}/moves")
def post_move(
    rollout_id: str,
    wish: MoveIn,
    session: WriteDep,
    actor: OperatorDep,
    director: DirectorDep,
    now: NowDep,
) -> RolloutOut:
    """Start, pause, resume or undo a rollout."""
    rollout = service.find_rollout(session, rollout_id)
    return out(session, _move(session, director, rollout, wish, actor, now))


@router.post("/deployments", status_code=201)
def post_deployment(
    wish: TargetIn,
    session: WriteDep,
    actor: OperatorDep,
    director: DirectorDep,
    now: NowDep,
) -> RolloutOut:
    """Deploy: a rollout of one wave without a gate."""
    rollout = drafts.create(session, _target(wish), actor, now_ms=now)
    service.start(session, director, rollout, actor, now_ms=now)
    return out(session, rollout)


@router.post("/rollbacks", status_code=201)
def post_rollback(
    wish: TargetIn,
    session: WriteDep,
    actor: OperatorDep,
    director: DirectorDep,
    now: NowDep,
) -> ReturnOut:
    """Put a slot of a group on one release, at once."""
    done = roll_back(session, director, _target(wish), actor, now_ms=now)
    return ReturnOut(
        rollout=out(session, done.rollout), devices=done.devices, stay=list(done.stay)
    )


def out(session: Session, rollout: Rollout) -> RolloutOut:
    """Return a rollout as the API shows it."""
    waves = session.exec(
        select(RolloutWave)
        .where(RolloutWave.rollout_id == rollout.id)
        .order_by(col(RolloutWave.number))
    )
    return RolloutOut(
        **rollout.model_dump(
            include={
                "id", "slot", "release", "model", "version", "state", "wave", "reason",
                "step", "created_by", "created_ms", "changed_ms",
            }
        ),
        group=rollout.group_name,
        waves=json.loads(rollout.waves_json),
        gate=json.loads(rollout.gate_json) if rollout.gate_json else None,
        progress=[
            WaveOut(
                **row.model_dump(exclude={"rollout_id", "evidence_json"}),
                evidence=json.loads(row.evidence_json),
            )
            for row in waves
        ],
    )  # fmt: skip


def _move(
    session: Session,
    director: Director,
    rollout: Rollout,
    wish: MoveIn,
    actor: Actor,
    now: int,
) -> Rollout:
    if wish.event is Event.START:
        return service.start(session, director, rollout, actor, now_ms=now)
    return service.move(
        session, director, rollout, wish.event, actor, now_ms=now, reason=wish.reason
    )


def _wish(wish: RolloutIn) -> Wish:
    gate = Gate(**wish.gate.model_dump()) if wish.gate else None
    waves = tuple(parse_wave(text) for text in wish.waves)
    if len(set(wish.waves)) != len(wish.waves):
        raise InvalidError("two waves are the same", "Each wave must admit more devices.")
    return Wish(
        wish.group, wish.slot, wish.model, wish.version, waves, gate, wish.skip_missing
    )


def _target(wish: TargetIn) -> Wish:
    return Wish(
        wish.group, wish.slot, wish.model, wish.version, (parse_wave("all"),), None,
        wish.skip_missing,
    )  # fmt: skip
