"""Logging in and out by a form."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import select

from modelfleet_server.console.pages import PageRoute, render, see
from modelfleet_server.identity import domain, service
from modelfleet_server.identity.api import (
    ThrottleDep,
    address_of,
    clear_session_cookie,
    set_session_cookie,
)
from modelfleet_server.identity.domain import TokenKind
from modelfleet_server.identity.service import Attempt
from modelfleet_server.identity.tables import AccessToken
from modelfleet_server.kit.access import SESSION_COOKIE, ViewerDep
from modelfleet_server.kit.api import NowDep, WriteDep, WriterDatabaseDep
from modelfleet_server.kit.errors import (
    AppError,
    ForbiddenError,
    TooManyError,
    UnauthorizedError,
)
from modelfleet_server.kit.problems import status_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

OWN_SITE = frozenset({"", "same-origin", "none"})


def safe_path(path: str) -> str:
    """Return `path` if it leads to a page of this server, else the first page."""
    parts = urlsplit(path)
    strange = parts.scheme or parts.netloc or "\\" in path or not path.isprintable()
    return "/" if strange or not path.startswith("/") or path.startswith("//") else path


@router.get("/login")
def get_login(request: Request, next: str = "/") -> Response:  # noqa: A002 of the URL
    """Show the form."""
    return render(
        request, "login.html", actor=None, next=safe_path(next), error="", name=""
    )


@router.post("/login")
def post_login(  # noqa: PLR0913, PLR0917 a form
    request: Request,
    database: WriterDatabaseDep,
    throttle: ThrottleDep,
    now: NowDep,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=domain.MAX_PASSWORD)],
    next: Annotated[str, Form(max_length=2000)] = "/",  # noqa: A002 as above
) -> Response:
    """Begin a session, or show the form again with what is wrong.

    Raises:
        ForbiddenError: Another site sent the form.
    """
    if request.headers.get("sec-fetch-site", "") not in OWN_SITE:
        raise ForbiddenError("another site sent this form", "Open the login page yourself.")
    attempt = Attempt(name.strip(), password, address_of(request))
    try:
        issued = service.log_in(database, throttle, attempt, TokenKind.SESSION, now=now)
    except (UnauthorizedError, TooManyError) as error:
        return _again(request, error, name, next)
    answer = see(safe_path(next))
    set_session_cookie(request, answer, issued.secret)
    return answer


@router.post("/logout")
def post_logout(
    request: Request, session: WriteDep, actor: ViewerDep, now: NowDep
) -> Response:
    """End the session."""
    secret = request.cookies.get(SESSION_COOKIE, "")
    token = session.exec(
        select(AccessToken.id).where(AccessToken.fingerprint == domain.fingerprint(secret))
    ).first()
    if token is not None:
        service.revoke_token(session, token, actor=actor, at_ms=now)
    answer = see("/login")
    clear_session_cookie(answer)
    return answer


def _again(request: Request, error: AppError, name: str, after: str) -> Response:
    what = f"{error.what[:1].upper()}{error.what[1:]}."
    return render(
        request,
        "login.html",
        actor=None,
        status=HTTPStatus(status_of(error)),
        next=safe_path(after),
        error=f"{what} {error.hint}".strip(),
        name=name,
    )
