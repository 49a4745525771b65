"""Who is asking, and may they.

The words live at the bottom so that every slice can guard its routes; *finding out* who
asks is done by `Authenticator`s that `identity` (users) and `devices` bring.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Protocol

from fastapi import Depends, Request
from sqlmodel import Session

from modelfleet_server.kit.api import DatabaseDep, NowDep, given
from modelfleet_server.kit.errors import ForbiddenError, UnauthorizedError

SESSION_COOKIE = "modelfleet_session"
FORM_TOKEN = "form_token"  # noqa: S105 the name of a field
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Role(StrEnum):
    """What a user may do; each includes those before it."""

    VIEWER = "viewer"
    TECHNICIAN = "technician"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Return whether this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class Kind(StrEnum):
    """What sort of thing acts."""

    USER = "user"
    DEVICE = "device"
    SYSTEM = "system"


@dataclass(frozen=True)
class Actor:
    """Who acts. `str(actor)` is what the audit log stores: `user:ada`, `device:cam-1`.

    Attributes:
        name: User name, device id, or the name of a part of the server.
        role: A user's role; None for devices.
        kind: Names are unique only within a kind.
    """

    name: str
    role: Role | None
    kind: Kind = Kind.USER

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def system(name: str) -> Actor:
    """Return the actor for what the server does by itself: `system:rollouts`."""
    return Actor(name=name, role=Role.ADMIN, kind=Kind.SYSTEM)


@dataclass(frozen=True)
class Credentials:
    """What a request showed. `form_token` guards writes that ride on a cookie."""

    bearer: str | None
    cookie: str | None
    form_token: str | None
    safe: bool


class Authenticator(Protocol):
    """Recognises one sort of credentials."""

    def __call__(self, session: Session, shown: Credentials, *, now: int) -> Actor | None:
        """Return who shows these credentials, None if they are of another sort.

        Raises:
            UnauthorizedError: They are of this sort and not valid.
        """


class Authenticators(list[Authenticator]):
    """All that the composition root wired, asked in order."""


async def shown_credentials(request: Request) -> Credentials:
    """Read bearer token, session cookie and form token of a request."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    cookie = request.cookies.get(SESSION_COOKIE)
    safe = request.method in SAFE_METHODS
    form_token = request.headers.get("x-form-token")
    if cookie and not safe and form_token is None and _is_form(request):
        field = (await request.form()).get(FORM_TOKEN)
        form_token = field if isinstance(field, str) else None
    return Credentials(
        bearer=token.strip() if scheme.lower() == "bearer" and token.strip() else None,
        cookie=cookie,
        form_token=form_token,
        safe=safe,
    )


def _is_form(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind in {"application/x-www-form-urlencoded", "multipart/form-data"}


def find_actor(
    shown: Annotated[Credentials, Depends(shown_credentials)],
    database: DatabaseDep,
    authenticators: Annotated[Authenticators, Depends(given(Authenticators))],
    now: NowDep,
) -> Actor | None:
    """Return who asks, None if the request shows nothing.

    Closes its session before the route begins.

    Raises:
        UnauthorizedError: What it shows is not valid.
    """
    if shown.bearer is None and shown.cookie is None:
        return None
    with database.read() as session:
        for authenticate in authenticators:
            if actor := authenticate(session, shown, now=now):
                return actor
    if shown.bearer is None:
        return None  # a cookie that is no longer good
    raise UnauthorizedError(
        "the token is not known here", "Log in again: modelfleet login."
    )


MaybeActorDep = Annotated[Actor | None, Depends(find_actor)]
"""For pages that send strangers to the login page. Does not count as a role check."""


class RoleCheck:
    """The dependency made by `require`; a test looks for one on every route."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, actor: MaybeActorDep) -> Actor:
        """Return the actor.

        Raises:
            UnauthorizedError: Nobody is known to be asking.
            ForbiddenError: They are not a user, or their role is too low.
        """
        if actor is None:
            raise UnauthorizedError("this needs a login", "Log in: modelfleet login.")
        if actor.role is None or not actor.role.includes(self.role):
            raise ForbiddenError(
                f"{actor} may not do this: it needs the role {self.role}",
                "Ask an admin, or log in as somebody else.",
                role=actor.role,
                needs=self.role,
            )
        return actor


class DeviceCheck:
    """Dependency for routes that devices use with their own token."""

    def __call__(self, actor: MaybeActorDep) -> Actor:
        """Return the device as an actor; `actor.name` is its id.

        Raises:
            UnauthorizedError: Nobody is known to be asking.
            ForbiddenError: It is not a device.
        """
        if actor is None:
            raise UnauthorizedError("this needs a device token", "Enrol the device.")
        if actor.kind is not Kind.DEVICE:
            raise ForbiddenError(f"{actor} is not a device", "Use the device's own token.")
        return actor


def require(role: Role) -> Callable[..., Actor]:
    """Return the dependency that lets in users of at least `role`.

    `actor: Annotated[Actor, Depends(require(Role.OPERATOR))]`, or shorter `OperatorDep`.
    """
    return RoleCheck(role)


ViewerDep = Annotated[Actor, Depends(require(Role.VIEWER))]
TechnicianDep = Annotated[Actor, Depends(require(Role.TECHNICIAN))]
OperatorDep = Annotated[Actor, Depends(require(Role.OPERATOR))]
ApproverDep = Annotated[Actor, Depends(require(Role.APPROVER))]
AdminDep = Annotated[Actor, Depends(require(Role.ADMIN))]
DeviceDep = Annotated[Actor, Depends(DeviceCheck())]
