"""The server's HTTP API, as the demonstration uses it."""

from http import HTTPStatus
from typing import Any

import httpx2

from modelfleet_server.demo.waiting import PromiseError

TIMEOUT_S = 30.0
Json = dict[str, Any]


class Client:
    """Asks one server as one user. Every method raises `PromiseError` on a refusal."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx2.Client(base_url=url, timeout=TIMEOUT_S)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def log_in(self, user: str, password: str) -> str:
        """Act as `user` from now on; return the bearer token."""
        issued = self.post("/login", {"name": user, "password": password})
        token = str(issued["token"])
        self._http.headers["Authorization"] = f"Bearer {token}"
        return token

    def get(self, path: str, **query: str | int) -> Json:
        """Return what is at a path below `/api/v1`."""
        return self._json("GET", path, params=query)

    def post(self, path: str, body: Json) -> Json:
        """Send a wish and return the answer."""
        return self._json("POST", path, json=body)

    def blob(self, digest: str) -> bytes:
        """Return a file by its SHA-256."""
        answer = self._http.get(f"/blobs/sha256/{digest}")
        if answer.status_code != HTTPStatus.OK:
            raise PromiseError(f"the server does not serve the file {digest}")
        content: bytes = answer.content
        return content

    def _json(self, method: str, path: str, **what: Any) -> Json:  # noqa: ANN401 httpx2's
        try:
            answer = self._http.request(method, f"/api/v1{path}", **what)
        except httpx2.TransportError as error:
            raise PromiseError(f"{method} {path}: no answer ({error})") from None
        if answer.status_code >= HTTPStatus.BAD_REQUEST:
            raise PromiseError(f"{method} {path}: {answer.status_code}", answer.text)
        found: Json = answer.json()
        return found
