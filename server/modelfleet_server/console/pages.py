"""Rendering: templates with autoescape, and errors as pages in words."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import ChainableUndefined, Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from modelfleet_manifests.errors import ManifestError
from modelfleet_server.console import words
from modelfleet_server.identity.domain import form_token
from modelfleet_server.kit.access import FORM_TOKEN, SESSION_COOKIE, Actor, Role
from modelfleet_server.kit.errors import AppError, UnauthorizedError
from modelfleet_server.kit.problems import status_of

HERE = Path(__file__).parent

templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
templates.globals |= {
    "age": words.age,
    "clock": words.clock,
    "iso": words.iso,
    "FORM_TOKEN": FORM_TOKEN,
    # what the <template> of a list is rendered with: all of it is empty
    "blank": ChainableUndefined(),
}


class Static(StaticFiles):
    """Our own few files; browsers ask each time whether they changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:  # noqa: ANN401 as is
        """Return a file, or 304."""
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or a page that says that it is not there."""
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:
            return HTMLResponse("There is no such file.", error.status_code)


static = Static(directory=HERE / "static")


def render(
    request: Request,
    template: str,
    *,
    actor: Actor | None,
    status: int = HTTPStatus.OK,
    **values: object,
) -> HTMLResponse:
    """Return a page; `actor` is None where nobody is logged in."""
    secret = request.cookies.get(SESSION_COOKIE, "")
    text = templates.get_template(template).render(
        actor=actor,
        form_token=form_token(secret) if secret else "",
        operator=actor is not None
        and actor.role is not None
        and actor.role.includes(Role.OPERATOR),
        **values,
    )
    return HTMLResponse(text, status_code=status)


def see(path: str) -> RedirectResponse:
    """Return a redirect after a form: the browser asks for `path` by GET."""
    return RedirectResponse(path, status_code=HTTPStatus.SEE_OTHER)


class PageRoute(APIRoute):
    """A route whose errors are pages, and which sends strangers to the login page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that FastAPI calls."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except UnauthorizedError as error:
                if request.method != "GET":
                    return _error(request, HTTPStatus.UNAUTHORIZED, error.what, error.hint)
                return see(f"/login?{urlencode({'next': _asked(request)})}")
            except AppError as error:
                return _error(request, status_of(error), error.what, error.hint)
            except ManifestError as error:
                return _error(request, HTTPStatus.UNPROCESSABLE_ENTITY, str(error), "")
            except RequestValidationError:
                return _error(
                    request,
                    HTTPStatus.UNPROCESSABLE_ENTITY,
                    "the address or the form holds something that is not understood",
                    "Go back to the fleet and start from there.",
                )

        return handle


def _asked(request: Request) -> str:
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def _error(request: Request, status: HTTPStatus, what: str, hint: str) -> Response:
    return render(
        request, "error.html", actor=None, status=status,
        title=status.phrase, what=what[:1].upper() + what[1:], hint=hint,
    )  # fmt: skip
