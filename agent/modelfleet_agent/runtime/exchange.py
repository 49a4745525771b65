"""A request and a response of the local endpoint, without sockets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

JSON = "application/json"

encode = msgspec.json.Encoder().encode


class RequestError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, what: str) -> None:
        self.status = status
        self.what = what
        super().__init__(what)


@dataclass
class Request:
    """A request as it came: header names in lower case, the target without its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | bytearray


@dataclass
class Response:
    """What is sent; the parts of `body` one after the other."""

    status: HTTPStatus
    body: list[bytes] = field(default_factory=list)
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Job:
    """Work that may take long.

    Attributes:
        run: Does it; never raises.
        quick: It is so short that it may run where others wait.
    """

    run: Callable[[], Response]
    quick: bool


def failure(status: HTTPStatus, what: str) -> Response:
    """Return an error as V2 writes it."""
    return Response(status, [encode({"error": what})])


def reply(content: object) -> Response:
    """Return `content` as JSON."""
    return Response(HTTPStatus.OK, [encode(content)])
