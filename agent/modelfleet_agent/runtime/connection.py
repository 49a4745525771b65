"""One client of the local endpoint: parses HTTP/1.1 and answers in order."""

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote

import httptools

from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.runtime.exchange import Job, Request, Response, failure
from modelfleet_agent.runtime.largebody import LargeBody, large_body

MOST_CONNECTIONS = 256
MOST_HEADER_BYTES = 32 << 10
LINGER_S = 2.0


class Host(Protocol):
    """What a connection needs of its server."""

    body_limit: int
    connections: "set[Connection]"

    def decide(self, request: Request) -> Response | Job:
        """Answer a request, or say how to."""

    def run(self, job: Job, done: Callable[[Response], None]) -> None:
        """Run `job` and hand its response to `done`, in the event loop."""


class Connection(asyncio.Protocol):
    """One client: parses requests and writes responses, in order."""

    def __init__(self, server: Host) -> None:
        """Wait for the transport."""
        self.heard_s = monotonic_s()
        self.busy = False
        self._deaf = False
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._todo: deque[tuple[Request, bool]] = deque()
        self._refused: Response | None = None
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._body = bytearray()
        self._large: LargeBody | None = None

    def close(self) -> None:
        """Close once what was written is sent."""
        if self._transport:
            self._transport.close()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, or turn the client away where there are too many."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream, always
        self._transport = transport
        if len(self._server.connections) >= MOST_CONNECTIONS:
            self._write(
                failure(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections"), keep=False
            )
            return
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Forget the client; a request of its that runs is finished for nobody."""
        self._server.connections.discard(self)
        self._transport = None
        self._todo.clear()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it refuses is answered 400 and closed."""
        if self._deaf:
            return
        self.heard_s = monotonic_s()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(HTTPStatus.NOT_IMPLEMENTED, "upgrades are not supported")
        except httptools.HttpParserError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"not HTTP: {error}")
        if self._refused and not self.busy:
            self._write(self._refused, keep=False)
        elif self._large and not self._refused and self._transport:
            self._large.done = self._large_done
            self._transport.set_protocol(self._large)

    def _large_done(self) -> None:
        assert self._transport  # noqa: S101 - it just delivered
        self._transport.set_protocol(self)
        self.heard_s = monotonic_s()
        self.on_message_complete()
        self._parser = httptools.HttpRequestParser(self)  # the other one waits for a body

    # httptools

    def on_message_begin(self) -> None:
        """Start a request."""
        self._begin()

    def on_url(self, url: bytes) -> None:
        """Collect the target; it may come in parts."""
        self._target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Refuse what cannot be taken before its body is sent."""
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._server.body_limit:
            self._too_large()
        if self._headers.get("expect", "").lower() == "100-continue" and not self._refused:
            self._send([b"HTTP/1.1 100 Continue\r\n\r\n"])
        self._large = large_body(self._headers, self.connection_lost)

    def on_body(self, body: bytes) -> None:
        """Collect a part of the body, up to the limit."""
        if len(self._body) + len(body) > self._server.body_limit:
            self._too_large()
        elif self._large:
            self._large.take(body)
        elif not self._refused:
            self._body += body

    def on_message_complete(self) -> None:
        """Answer the request, or queue it behind the one that runs."""
        if self._refused:
            return
        body = self._large.view if self._large else self._body
        self._large = None
        path = self._target.partition(b"?")[0].decode("latin-1")
        method = self._parser.get_method().decode("ascii")
        request = Request(
            method, unquote(path), self._headers, body, self._server.body_limit
        )
        self._todo.append((request, self._parser.should_keep_alive()))
        if not self.busy:
            self._next()
        elif self._transport:
            self._transport.pause_reading()  # a client that does not wait is made to

    # answering

    def _next(self) -> None:
        while self._todo and not self.busy and self._transport:
            request, keep = self._todo.popleft()
            self.busy = True
            answer = self._server.decide(request)
            if isinstance(answer, Response):
                self._done(answer, request, keep)
            else:
                self._server.run(answer, lambda r, q=request, k=keep: self._done(r, q, k))  # type: ignore[misc]

    def _done(self, response: Response, request: Request, keep: bool) -> None:  # noqa: FBT001
        self.busy = False
        self.heard_s = monotonic_s()
        self._write(response, keep=keep, head=request.method == "HEAD")
        if self._transport and not self._todo:
            self._transport.resume_reading()
        if self._refused and not self._todo:
            self._write(self._refused, keep=False)
        elif self._todo:
            asyncio.get_running_loop().call_soon(self._next)

    def _write(self, response: Response, *, keep: bool, head: bool = False) -> None:
        length = sum(map(len, response.body))
        lines = [
            f"HTTP/1.1 {response.status.value} {response.status.phrase}",
            f"Content-Type: {response.content_type}",
            f"Content-Length: {length}",
            *(f"{name}: {value}" for name, value in response.headers.items()),
            *(() if keep else ("Connection: close",)),
        ]
        start = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        self._send([start] if head else [start, *response.body])  # one system call
        if not keep:
            self._hang_up()

    def _hang_up(self) -> None:
        # closing with unread bytes would reset the connection before the answer is read
        self._deaf = True
        if self._transport and self._transport.can_write_eof():
            self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self.close)

    def _send(self, parts: list[bytes]) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.writelines(parts)

    def _count(self, length: int) -> None:
        self._header_bytes += length
        if self._header_bytes > MOST_HEADER_BYTES:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers exceed 32 KiB"
            )

    def _too_large(self) -> None:
        what = f"the body exceeds {self._server.body_limit} bytes"
        self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)

    def _refuse(self, status: HTTPStatus, what: str) -> None:
        self._refused = self._refused or failure(status, what)
