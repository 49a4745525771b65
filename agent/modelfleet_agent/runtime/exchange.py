"""A request and a response of the local endpoint, without sockets."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

JSON = "application/json"
CODINGS = {"gzip": 31, "deflate": 15}  # window bits, as zlib takes them

encode = msgspec.json.Encoder().encode


class RequestError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, what: str) -> None:
        self.status = status
        self.what = what
        super().__init__(what)


@dataclass
class Request:
    """A request as it came: header names in lower case, the target without its query.

    Attributes:
        most_bytes: What its body may unpack to.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | bytearray | memoryview
    most_bytes: int = 64 << 20


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


def unpacked(request: Request) -> bytes | bytearray | memoryview:
    """Return the body without its `Content-Encoding`.

    Raises:
        RequestError: 400: damaged; 413: it grows beyond the limit; 415: not known.
    """
    coding = request.headers.get("content-encoding", "identity")
    if coding == "identity":
        return request.body
    if coding not in CODINGS:
        what = f"content-encoding {coding!r} is none of {sorted(CODINGS)}"
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, what)
    unpack = zlib.decompressobj(CODINGS[coding])
    try:
        body = unpack.decompress(request.body, request.most_bytes + 1)
    except zlib.error as error:
        what = f"the body is no {coding}: {error}"
        raise RequestError(HTTPStatus.BAD_REQUEST, what) from error
    if len(body) > request.most_bytes:
        what = f"the body exceeds {request.most_bytes} bytes"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
    if not unpack.eof:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the body's {coding} is cut short")
    return body


def failure(status: HTTPStatus, what: str) -> Response:
    """Return an error as V2 writes it."""
    return Response(status, [encode({"error": what})])


def reply(content: object) -> Response:
    """Return `content` as JSON."""
    return Response(HTTPStatus.OK, [encode(content)])
