"""The server's HTTP API, as the commands use it."""

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from modelfleet_server.cli.account import Account
from modelfleet_server.cli.exits import ServerError
from modelfleet_server.cli.screen import Advance
from modelfleet_server.kit.errors import InvalidError, UnavailableError

TIMEOUT_S = 60.0
MAX_PAGE = 500
CHUNK = 1 << 20
STANDARD = {"type", "title", "status", "detail", "code", "hint"}
Json = dict[str, Any]


class Listing(NamedTuple):
    """Some items, and the cursor of what follows (None: that was all)."""

    items: list[Json]
    next: str | None

    @property
    def document(self) -> Json:
        """The listing as `--json` shows it."""
        return {"items": self.items, "next": self.next}


class Client:
    """Asks one server. Every method raises `ServerError` or `UnavailableError`."""

    def __init__(self, account: Account) -> None:
        import httpx2

        self.account = account
        headers = {"Authorization": f"Bearer {account.token}"} if account.token else {}
        # proxies of the environment are for other machines, most servers are near
        self._http = httpx2.Client(
            base_url=account.server, headers=headers, timeout=TIMEOUT_S
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def get(self, path: str, **query: object) -> Json:
        """Return what is at a path below `/api/v1`."""
        return self._json("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Json:
        """Send a wish and return the answer."""
        return self._json("POST", path, body=body or {})

    def put(self, path: str, body: Mapping[str, object]) -> Json:
        """Replace what is at a path."""
        return self._json("PUT", path, body=body)

    def delete(self, path: str, **query: object) -> None:
        """Take away what is at a path."""
        self._json("DELETE", path, query=query)

    def list(self, path: str, limit: int, **query: object) -> Listing:
        """Return up to `limit` items (0: all), following the cursors.

        `next` is where to go on if there are more.
        """
        items: list[Json] = []
        cursor: str | None = None
        while True:
            want = min(MAX_PAGE, limit - len(items)) if limit else MAX_PAGE
            page = self.get(path, **query, limit=want, cursor=cursor)
            items += page["items"]
            cursor = page["next"]
            if cursor is None or (limit and len(items) >= limit):
                return Listing(items, cursor)

    def find(self, path: str) -> Json | None:
        """Return what is at a path, None where nothing is."""
        try:
            return self.get(path)
        except ServerError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    def has_blob(self, digest: str) -> bool:
        """Return whether the server holds a blob."""
        answer = self._send("HEAD", f"/blobs/sha256/{digest}")
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return False
        _check(answer)
        return True

    def upload(self, path: Path, digest: str, advance: Advance) -> None:
        """Store a file under its digest."""
        headers = {"Content-Length": str(path.stat().st_size)}
        address = f"/api/v1/blobs/sha256/{digest}"
        _check(self._send("PUT", address, content=_chunks(path, advance), headers=headers))

    def download(self, digest: str, path: Path) -> None:
        """Write a blob to a file; whether it is that blob is for the caller to check."""
        answer = self._send("GET", f"/blobs/sha256/{digest}")
        _check(answer)
        path.write_bytes(answer.content)

    def metadata(self, name: str) -> bytes | None:
        """Return a trust metadata file by its quoted name, None where there is none."""
        answer = self._send("GET", f"/tuf/metadata/{name}")
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        _check(answer)
        content: bytes = answer.content
        return content

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Json:
        params = {key: value for key, value in (query or {}).items() if value is not None}
        answer = self._send(method, f"/api/v1{path}", params=params, json=body)
        _check(answer)
        if answer.status_code == HTTPStatus.NO_CONTENT:
            return {}
        try:
            found: Json = answer.json()
        except ValueError:
            raise _stranger(self.account.server) from None
        return found

    def _send(self, method: str, path: str, **what: Any) -> Any:  # noqa: ANN401
        import httpx2

        try:
            return self._http.request(method, path, **what)
        except httpx2.InvalidURL as error:
            raise InvalidError(f"the server {self.account.server!r}: {error}") from None
        except httpx2.TransportError as error:
            raise UnavailableError(
                f"the server {self.account.server} cannot be reached: {error}",
                "Is it running (modelfleet serve)? Name another with --server.",
                server=self.account.server,
            ) from None


def name(part: str) -> str:
    """Return a name as one step of a path, whatever it is."""
    # a step of dots would be taken as a way up
    return (
        quote(part, safe="").replace(".", "%2E")
        if set(part) == {"."}
        else quote(part, safe="")
    )


def _chunks(path: Path, advance: Advance) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
            sent += len(chunk)
            advance(sent)


def _check(answer: Any) -> None:  # noqa: ANN401 httpx2 is imported only if needed
    """Raise what the server says is wrong."""
    if answer.status_code < HTTPStatus.MULTIPLE_CHOICES:
        return
    try:
        problem = json.loads(answer.content)
        what, code = str(problem["detail"]), str(problem["code"])
    except (ValueError, KeyError, TypeError):
        raise _stranger(str(answer.request.url), answer.status_code) from None
    if what == HTTPStatus.NOT_FOUND.phrase:  # no route of the server: a strange name
        what = f"the server has nothing at {answer.request.url.raw_path.decode()}"
    data = {key: value for key, value in problem.items() if key not in STANDARD}
    raise ServerError(answer.status_code, code, what, str(problem.get("hint", "")), data)


def _stranger(server: str, status: int = HTTPStatus.OK) -> ServerError:
    return ServerError(
        HTTPStatus.BAD_GATEWAY,
        "no-modelfleet",
        f"{server} answers {int(status)}, and not as a modelfleet server does",
        "Check the address given with --server.",
        {},
    )
