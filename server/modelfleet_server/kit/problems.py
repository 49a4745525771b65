"""Errors as `application/problem+json` (RFC 9457): the only place that knows both.

Members: `type`, `title`, `status`, `detail` (what is wrong), `code` (for programs), `hint`
(what to do next), and the error's own data.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from modelfleet_manifests.errors import ManifestError
from modelfleet_server.kit import errors
from modelfleet_server.kit.ids import new_id

log = logging.getLogger(__name__)

STATUS: dict[type[errors.AppError], HTTPStatus] = {
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.InvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.TooManyError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(JSONResponse):
    """A response that is a problem document."""

    media_type = "application/problem+json"


def problem(
    status: int,
    code: str,
    detail: str,
    hint: str = "",
    *,
    data: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Problem:
    """Make a problem document; `data` cannot replace its standard members."""
    body = dict(jsonable_encoder(data or {})) | {
        "type": f"urn:modelfleet:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "code": code,
        "hint": hint,
    }
    return Problem(body, status_code=int(status), headers=dict(headers or {}))


def status_of(error: errors.AppError) -> HTTPStatus:
    """Return the status of the nearest class that has one."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def answer(error: errors.AppError) -> Problem:
    """Return the problem document of an application error."""
    status = status_of(error)
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        wait_ms = int(str(error.data.get("retry_after_ms", 1000)))
        headers["Retry-After"] = str(-(-wait_ms // 1000))
    return problem(
        status, error.code, error.what, error.hint, data=error.data, headers=headers
    )


def _on_app_error(_request: Request, error: Exception) -> Problem:
    assert isinstance(error, errors.AppError)  # noqa: S101 registered for it
    return answer(error)


def _on_manifest_error(_request: Request, error: Exception) -> Problem:
    assert isinstance(error, ManifestError)  # noqa: S101 registered for it
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, error.code, str(error))


def _on_validation_error(_request: Request, error: Exception) -> Problem:
    assert isinstance(error, RequestValidationError)  # noqa: S101 registered for it
    # `input` and `ctx` may hold what was sent, for example a password
    found = [
        {"where": ".".join(str(step) for step in one["loc"]), "what": one["msg"]}
        for one in error.errors()
    ]
    first = (
        f"{found[0]['where']}: {found[0]['what']}" if found else "the request is malformed"
    )
    return problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "invalid",
        first,
        "See /api/v1/openapi.json for what this address accepts.",
        data={"errors": found},
    )


def _on_http_exception(_request: Request, error: Exception) -> Problem:
    assert isinstance(error, HTTPException)  # noqa: S101 registered for it
    code = HTTPStatus(error.status_code).name.lower().replace("_", "-")
    return problem(error.status_code, code, str(error.detail), headers=error.headers)


def _on_unknown(request: Request, error: Exception) -> Problem:
    """Log everything, tell nothing but a number to find it by."""
    incident = new_id()
    log.error(
        "incident %s: %s %s", incident, request.method, request.url.path, exc_info=error
    )
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "defect",
        "the server made a mistake",
        f"Look for incident {incident} in the server's log.",
        data={"incident": incident},
    )


def register_problems(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(errors.AppError, _on_app_error)
    app.add_exception_handler(ManifestError, _on_manifest_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_unknown)
