"""Exit codes: they are API, the same for every command. See docs/commands.md."""

from enum import IntEnum
from http import HTTPStatus

from modelfleet_manifests.errors import ManifestError
from modelfleet_server.kit import errors


class Exit(IntEnum):
    """How a command ended; never renumber one."""

    OK = 0
    DEFECT = 1
    USAGE = 2
    NOT_YET = 3
    REFUSED = 4
    CONFLICT = 5
    NOT_ALLOWED = 6
    LATER = 7


MEANING = {
    Exit.OK: "done",
    Exit.DEFECT: "a defect of modelfleet",
    Exit.USAGE: "the command line is wrong",
    Exit.NOT_YET: "not compliant, or not there yet",
    Exit.REFUSED: "bad input, something that does not exist, or you said no",
    Exit.CONFLICT: "it clashes with what is there",
    Exit.NOT_ALLOWED: "not logged in, not allowed, or a wrong passphrase",
    Exit.LATER: "server or broker cannot be reached, or is busy: try later",
}

_KINDS: dict[type[Exception], Exit] = {
    errors.ConflictError: Exit.CONFLICT,
    errors.UnauthorizedError: Exit.NOT_ALLOWED,
    errors.ForbiddenError: Exit.NOT_ALLOWED,
    errors.TooManyError: Exit.LATER,
    errors.UnavailableError: Exit.LATER,
    errors.InvalidError: Exit.REFUSED,
    errors.NotFoundError: Exit.REFUSED,
    ManifestError: Exit.REFUSED,
}

_STATUSES = {
    HTTPStatus.CONFLICT: Exit.CONFLICT,
    HTTPStatus.UNAUTHORIZED: Exit.NOT_ALLOWED,
    HTTPStatus.FORBIDDEN: Exit.NOT_ALLOWED,
    HTTPStatus.TOO_MANY_REQUESTS: Exit.LATER,
    HTTPStatus.BAD_GATEWAY: Exit.LATER,
    HTTPStatus.SERVICE_UNAVAILABLE: Exit.LATER,
    HTTPStatus.GATEWAY_TIMEOUT: Exit.LATER,
}


class ServerError(errors.AppError):
    """What the server answered instead of what was asked for.

    Attributes:
        status: Of the answer.
        problem: The server's code for it, in place of the class's.
    """

    def __init__(
        self, status: int, problem: str, what: str, hint: str, data: dict[str, object]
    ) -> None:
        super().__init__(what, hint, **data)
        self.status, self.problem = status, problem


class NotYetError(errors.AppError):
    """What was waited for has not come, or is not as it should be."""

    code = "not-yet"


class DeclinedError(errors.AppError):
    """Whoever was asked said no."""

    code = "declined"


def exit_of(error: Exception) -> Exit:
    """Return the exit code for an error; `DEFECT` for one that nobody expected."""
    if isinstance(error, ServerError):
        return _of_status(error.status)
    if isinstance(error, NotYetError):
        return Exit.NOT_YET
    if isinstance(error, DeclinedError):
        return Exit.REFUSED
    found = (_KINDS[kind] for kind in type(error).__mro__ if kind in _KINDS)
    return next(found, Exit.DEFECT)


def _of_status(status: int) -> Exit:
    if status in _STATUSES:
        return _STATUSES[HTTPStatus(status)]
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Exit.REFUSED
    return Exit.DEFECT
