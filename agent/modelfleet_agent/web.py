"""One server over HTTP: keep-alive, timeouts, the device's token, errors with a name."""

import base64
import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from modelfleet_agent.errors import RetryableError, UsageError

ANSWER_CAP = 1 << 20
_PORTS = {"http": 80, "https": 443}
PROXY_PORT = 3128
_STALE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class Site:
    """A base URL and at most one open connection to it. Used by one thread at a time."""

    def __init__(
        self,
        base: str,
        *,
        token: str = "",
        timeout_s: float = 15,
        proxy: str = "",
        count: Callable[[int], object] = lambda _count: None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            base: Such as `http://127.0.0.1:8080` or `https://fleet.example/prefix`.
            token: Bearer token; sent to this server only. No redirect is followed.
            timeout_s: The longest wait for a connection or for the next byte.
            proxy: HTTP proxy, `http://[user:password@]host:port`; "" asks directly.
            count: Told the bytes of bodies that are sent, and announced in answers.

        Raises:
            UsageError: `E_URL`: not an HTTP address.
        """
        self.base = base
        self._scheme, self._host, self._port, self._prefix = _split(base)
        self._proxy = urlsplit(proxy) if proxy else None
        self._token = token
        self._timeout = timeout_s
        self._count = count
        self._connection: http.client.HTTPConnection | None = None

    @property
    def place(self) -> tuple[str, int | None]:
        """Host and port that connections are made to: those of the proxy, or the own."""
        if self._proxy:
            return self._proxy.hostname or "", self._proxy.port or PROXY_PORT
        return self._host, self._port or _PORTS[self._scheme]

    @contextmanager
    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and give its response, whatever its status.

        A body that is not read to its end costs the connection, nothing else.

        Raises:
            RetryableError: `E_UNREACHABLE`: no connection; `E_CUT`: it broke while the body
                was read, or the body is shorter than announced.
        """
        response = self._send(method, self._target(path), headers, body)
        try:
            self._count(len(body or b"") + (response.length or 0))
            yield response
        except (OSError, http.client.HTTPException) as error:
            self.close()
            what = f"{self.base}: the answer broke off ({_words(error)})"
            raise RetryableError("E_CUT", what, url=self.base + path) from error
        finally:
            if not response.isclosed():
                self.close()
            response.close()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Send and receive JSON; the value is None where the answer is not JSON.

        Raises:
            RetryableError: As `exchange`, or `E_ANSWER`: more than 1 MiB.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if data is not None else {}
        with self.exchange(method, path, headers=headers, body=data) as response:
            text = response.read(ANSWER_CAP + 1)
        if len(text) > ANSWER_CAP:
            raise RetryableError("E_ANSWER", f"{self.base}{path} answers more than 1 MiB")
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
    ) -> http.client.HTTPResponse:
        fields = {"Accept-Encoding": "identity", **(headers or {})}
        if self._token:
            fields["Authorization"] = f"Bearer {self._token}"
        if self._scheme == "http":
            fields |= self._credentials()
        reused = self._connection is not None
        try:
            return self._try(method, path, fields, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not reused or not isinstance(error, _STALE):
                raise self._unreachable(error) from error
        # The server closed a connection that was idle: once more on a new one.
        try:
            return self._try(method, path, fields, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._unreachable(error) from error

    def _try(
        self, method: str, path: str, fields: Mapping[str, str], body: bytes | None
    ) -> http.client.HTTPResponse:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request(method, path, body=body, headers=fields)
        return self._connection.getresponse()

    def _target(self, path: str) -> str:
        """Return what a request line names: a proxy for plain HTTP wants all of it."""
        whole = self._prefix + path
        if self._proxy is None or self._scheme == "https":
            return whole
        port = f":{self._port}" if self._port else ""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}{port}{whole}"

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self.place
        if self._scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        connection = http.client.HTTPSConnection(
            host, port, timeout=self._timeout, context=ssl.create_default_context()
        )
        if self._proxy:  # it sees names and sizes, nothing else
            connection.set_tunnel(self._host, self._port, self._credentials())
        return connection

    def _credentials(self) -> dict[str, str]:
        return proxy_credentials(self._proxy) if self._proxy else {}

    def _unreachable(self, error: Exception) -> RetryableError:
        return RetryableError(
            "E_UNREACHABLE",
            f"{self.base} cannot be reached ({_words(error)})",
            hint="is the server running, and is the address right?",
            url=self.base,
        )


def proxy_credentials(proxy: SplitResult) -> dict[str, str]:
    """Return the header fields that a proxy wants to see; none where it has no password."""
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    packed = base64.b64encode(pair.encode()).decode()
    return {"Proxy-Authorization": f"Basic {packed}"}


def read_blocks(response: http.client.HTTPResponse, size: int) -> Iterator[bytes]:
    """Yield the body in blocks of at most `size` bytes, as they come.

    Raises:
        IncompleteRead: The connection ended before the announced length; inside
            `Site.exchange` that becomes `E_CUT`.
    """
    while block := response.read1(size):
        yield block
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _split(base: str) -> tuple[str, str, int | None, str]:
    hint = "give the server's base address, such as http://127.0.0.1:8080"
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError as error:
        raise UsageError("E_URL", f"{base!r} is no address ({error})", hint=hint) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError("E_URL", f"{base!r} is not an HTTP address", hint=hint)
    if parts.username is not None or parts.query or parts.fragment:
        what = f"{base!r} carries more than scheme, host, port and path"
        raise UsageError("E_URL", what, hint=hint)
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
