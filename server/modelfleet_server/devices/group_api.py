"""Routes for groups."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlmodel import Session, select

from modelfleet_server.devices import groups
from modelfleet_server.devices.tables import Group
from modelfleet_server.kit.access import OperatorDep, ViewerDep
from modelfleet_server.kit.api import NowDep, ReadDep, WriteDep, given
from modelfleet_server.kit.paging import Page, PageDep, fetch_page
from modelfleet_server.trust.director import Director

router = APIRouter(prefix="/api/v1", tags=["groups"])
DirectorDep = Annotated[Director, Depends(given(Director))]


class GroupIn(BaseModel):
    """A new group: either a selector or a list of devices."""

    name: str
    selector: str | None = None
    devices: list[str] = Field(default_factory=list, max_length=100_000)
    priority: int = Field(default=0, ge=-1000, le=1000)


class GroupOut(BaseModel):
    """A group."""

    id: str
    name: str
    selector: str | None
    priority: int
    members: int
    slots: list[str]
    created_ms: int


@router.get("/groups")
def get_groups(session: ReadDep, _actor: ViewerDep, ask: PageDep) -> Page[GroupOut]:
    """List groups by name."""
    rows, cursor = fetch_page(session, select(Group), [Group.name], ask)
    return Page(items=[_group(session, row) for row in rows], next=cursor)


@router.post("/groups", status_code=201)
def post_group(
    wish: GroupIn, session: WriteDep, actor: OperatorDep, now: NowDep
) -> GroupOut:
    """Make a group."""
    made = groups.create_group(
        session,
        groups.GroupWish(wish.name, wish.selector, tuple(wish.devices), wish.priority),
        actor,
        now_ms=now,
    )
    return _group(session, made)


@router.delete("/groups/{name}", status_code=204)
def delete_group(
    name: str,
    session: WriteDep,
    actor: OperatorDep,
    director: DirectorDep,
    now: NowDep,
    yes: Annotated[bool, Query()] = False,  # noqa: FBT002 a query parameter
) -> None:
    """Delete a group; one that governs a slot needs `yes`."""
    groups.delete_group(session, director, name, actor, now_ms=now, governing_too=yes)


def _group(session: Session, group: Group) -> GroupOut:
    return GroupOut(
        id=group.id,
        name=group.name,
        selector=group.selector,
        priority=group.priority,
        members=groups.count_members(session, group.id),
        slots=groups.slots_of(session, group.id),
        created_ms=group.created_ms,
    )
