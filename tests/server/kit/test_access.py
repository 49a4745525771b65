"""The guard reads what a request shows, and leaves its body to the route."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import FastAPI, Form
from fastapi.testclient import TestClient
from sqlmodel import Session

from modelfleet_server.kit.access import (
    SESSION_COOKIE,
    Actor,
    Authenticators,
    Credentials,
    DeviceDep,
    Kind,
    OperatorDep,
    Role,
)
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.parts import Parts
from modelfleet_server.kit.problems import register_problems

ACTORS = {
    "ops": Actor("ops", Role.OPERATOR),
    "tech": Actor("tech", Role.TECHNICIAN),
    "cam": Actor("cam-1", None, Kind.DEVICE),
}


def authenticate(session: Session, shown: Credentials, *, now: int) -> Actor | None:
    """Tokens are names here; a cookie needs `form` to write."""
    if shown.bearer is not None:
        return ACTORS.get(shown.bearer)
    return ACTORS["ops"] if shown.safe or shown.form_token == "form" else None


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    app, parts = FastAPI(), Parts()
    parts.put(Authenticators([authenticate]))
    parts.put(Database(f"sqlite:///{tmp_path}/empty.db"))
    app.state.parts = parts
    register_problems(app)

    @app.get("/operators")
    def get_operators(actor: OperatorDep) -> str:
        return str(actor)

    @app.get("/devices")
    def get_devices(actor: DeviceDep) -> str:
        return str(actor)

    @app.post("/form")
    def post_form(actor: OperatorDep, note: Annotated[str, Form()]) -> str:
        return note

    with TestClient(app) as client:
        yield client
    parts.get(Database).close()


def get(client: TestClient, path: str, bearer: str | None) -> tuple[int, str]:
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    answer = client.get(path, headers=headers)
    body = answer.json()
    return answer.status_code, body if isinstance(body, str) else body["code"]


@pytest.mark.parametrize(
    ("bearer", "answer"),
    [
        (None, (401, "unauthorized")),
        ("nobody", (401, "unauthorized")),
        ("tech", (403, "forbidden")),
        ("cam", (403, "forbidden")),
        ("ops", (200, "user:ops")),
    ],
)
def test_a_role_is_asked_for(
    client: TestClient, bearer: str | None, answer: tuple[int, str]
) -> None:
    assert get(client, "/operators", bearer) == answer


@pytest.mark.parametrize(
    ("bearer", "answer"),
    [
        (None, (401, "unauthorized")),
        ("ops", (403, "forbidden")),
        ("cam", (200, "device:cam-1")),
    ],
)
def test_a_device_is_asked_for(
    client: TestClient, bearer: str | None, answer: tuple[int, str]
) -> None:
    assert get(client, "/devices", bearer) == answer


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
def test_the_guard_and_the_route_both_read_the_form(client: TestClient, kind: str) -> None:
    client.cookies.set(SESSION_COOKIE, "any")
    files = {"file": b"x"} if kind == "multipart" else None
    fields = {"note": "hello", "form_token": "form"}
    answer = client.post("/form", data=fields, files=files)
    assert (answer.status_code, answer.json()) == (200, "hello")
    fields["form_token"] = "another"
    assert client.post("/form", data=fields, files=files).status_code == 401
