"""Logins, users and tokens over HTTP; the guard for everybody's routes.

`require(Role.X)` and the `...Dep` aliases live in `kit.access`, so that the slices below
can use them too; they are here for everybody else.
"""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field
from sqlmodel import col, select

from modelfleet_server.identity import domain, service
from modelfleet_server.identity.domain import Throttle, TokenKind
from modelfleet_server.identity.service import Attempt, Issued, NewUser, UserChange
from modelfleet_server.identity.tables import AccessToken, User
from modelfleet_server.kit.access import (
    SESSION_COOKIE,
    Actor,
    AdminDep,
    ApproverDep,
    DeviceDep,
    MaybeActorDep,
    OperatorDep,
    Role,
    TechnicianDep,
    ViewerDep,
    require,
)
from modelfleet_server.kit.api import NowDep, ReadDep, WriteDep, WriterDatabaseDep, given
from modelfleet_server.kit.paging import Page, PageDep, fetch_page

__all__ = [
    "Actor",
    "AdminDep",
    "ApproverDep",
    "DeviceDep",
    "MaybeActorDep",
    "OperatorDep",
    "Role",
    "TechnicianDep",
    "ThrottleDep",
    "ViewerDep",
    "address_of",
    "clear_session_cookie",
    "require",
    "router",
    "set_session_cookie",
]

router = APIRouter(prefix="/api/v1", tags=["identity"])
ThrottleDep = Annotated[Throttle, Depends(given(Throttle))]
TokenId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]


class LoginIn(BaseModel):
    """A name and its password."""

    name: str = Field(max_length=63)
    password: str = Field(max_length=domain.MAX_PASSWORD)


class IssuedOut(BaseModel):
    """A new token. `token` is shown this once."""

    id: str
    token: str
    name: str
    user: str
    expires_ms: int


class TokenIn(BaseModel):
    """What a new API token is for, and how long it lives."""

    name: str = Field(min_length=1, max_length=100)
    days: int = Field(default=90, ge=1, le=365)


class TokenOut(BaseModel):
    """A token without its secret."""

    id: str
    user: str
    kind: TokenKind
    name: str
    created_ms: int
    expires_ms: int
    revoked_ms: int | None


class UserIn(BaseModel):
    """Who shall be able to log in."""

    name: str
    role: Role
    password: str


class UserPatch(BaseModel):
    """What shall be different; absent leaves it as it is."""

    role: Role | None = None
    password: str | None = None
    disabled: bool | None = None


class UserOut(BaseModel):
    """A user."""

    name: str
    role: Role
    disabled: bool
    created_ms: int


class MeOut(BaseModel):
    """Whoever asks."""

    name: str
    role: Role | None
    kind: str


@router.post("/login")
def post_login(
    wish: LoginIn,
    request: Request,
    database: WriterDatabaseDep,
    throttle: ThrottleDep,
    now: NowDep,
) -> IssuedOut:
    """Exchange a password for a bearer token that lives 30 days."""
    attempt = Attempt(wish.name, wish.password, address_of(request))
    return _shown(service.log_in(database, throttle, attempt, TokenKind.LOGIN, now=now))


@router.get("/me")
def get_me(actor: ViewerDep) -> MeOut:
    """Say who the token stands for."""
    return MeOut(name=actor.name, role=actor.role, kind=actor.kind)


@router.get("/users")
def get_users(session: ReadDep, _actor: AdminDep, ask: PageDep) -> Page[UserOut]:
    """List users by name."""
    rows, after = fetch_page(session, select(User), [User.name], ask)
    return Page(items=[UserOut(**row.model_dump()) for row in rows], next=after)


@router.post("/users", status_code=HTTPStatus.CREATED)
def post_user(wish: UserIn, session: WriteDep, actor: AdminDep, now: NowDep) -> UserOut:
    """Add a user."""
    new = NewUser(wish.name, wish.role, wish.password)
    user = service.create_user(session, new, actor=actor, at_ms=now)
    return UserOut(**user.model_dump())


@router.patch("/users/{name}")
def patch_user(
    name: str, wish: UserPatch, session: WriteDep, actor: AdminDep, now: NowDep
) -> UserOut:
    """Change role, password or access of a user."""
    change = UserChange(**wish.model_dump())
    user = service.change_user(session, name, change, actor=actor, at_ms=now)
    return UserOut(**user.model_dump())


@router.get("/tokens")
def get_tokens(session: ReadDep, actor: ViewerDep, ask: PageDep) -> Page[TokenOut]:
    """List one's own tokens; an admin sees everybody's."""
    statement = select(AccessToken)
    if actor.role is not Role.ADMIN:
        statement = statement.where(AccessToken.user == actor.name)
    keys = [col(AccessToken.created_ms), col(AccessToken.id)]
    rows, after = fetch_page(session, statement, keys, ask, newest_first=True)
    return Page(items=[TokenOut(**row.model_dump()) for row in rows], next=after)


@router.post("/tokens", status_code=HTTPStatus.CREATED)
def post_token(
    wish: TokenIn, session: WriteDep, actor: ViewerDep, now: NowDep
) -> IssuedOut:
    """Make an API token that may do what its owner may."""
    life_ms = wish.days * 24 * domain.HOUR_MS
    return _shown(
        service.issue(session, actor, TokenKind.API, wish.name, at_ms=now, life_ms=life_ms)
    )


@router.delete("/tokens/{token_id}", status_code=HTTPStatus.NO_CONTENT)
def delete_token(
    token_id: TokenId, session: WriteDep, actor: ViewerDep, now: NowDep
) -> None:
    """End a token now."""
    service.revoke_token(session, token_id, actor=actor, at_ms=now)


def address_of(request: Request) -> str:
    """Return the network address a request came from, for the throttle."""
    return request.client.host if request.client else "unknown"


def set_session_cookie(request: Request, response: Response, secret: str) -> None:
    """Log a browser in: `secret` from `service.log_in(..., TokenKind.SESSION)`."""
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        max_age=domain.SESSION_LIFE_MS // 1000,
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def clear_session_cookie(response: Response) -> None:
    """Make a browser forget its session; revoke the token as well."""
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")


def _shown(issued: Issued) -> IssuedOut:
    token = issued.token
    return IssuedOut(
        id=token.id,
        token=issued.secret,
        name=token.name,
        user=token.user,
        expires_ms=token.expires_ms,
    )
