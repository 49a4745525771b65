"""Logins, users and tokens over HTTP."""

import httpx2
import pytest
from tests.support.server import ServerUnderTest

from modelfleet_server.identity import service
from modelfleet_server.identity.domain import Throttle, TokenKind, form_token
from modelfleet_server.identity.service import Attempt, NewUser
from modelfleet_server.kit.access import SESSION_COOKIE, Role, system
from modelfleet_server.kit.clock import now_ms

PASSWORD = "correct horse"
BOB = {"name": "bob", "role": "operator", "password": PASSWORD}


@pytest.fixture
def admin(server: ServerUnderTest) -> httpx2.Client:
    return server.client(Role.ADMIN)


def test_a_user_is_created_logs_in_and_is_known(
    server: ServerUnderTest, admin: httpx2.Client
) -> None:
    created = admin.post("/api/v1/users", json=BOB)
    assert created.status_code == 201
    assert "password" not in created.text
    login = server.client().post(
        "/api/v1/login", json={"name": "bob", "password": PASSWORD}
    )
    headers = {"Authorization": f"Bearer {login.json()['token']}"}
    me = server.client().get("/api/v1/me", headers=headers)
    assert me.json() == {"name": "bob", "role": "operator", "kind": "user"}
    names = [user["name"] for user in admin.get("/api/v1/users").json()["items"]]
    assert names == ["admin", "bob"]


@pytest.mark.parametrize("role", [None, *(role for role in Role if role is not Role.ADMIN)])
def test_only_admins_see_and_make_users(server: ServerUnderTest, role: Role | None) -> None:
    client = server.client(role)
    expected = 401 if role is None else 403
    assert client.get("/api/v1/users").status_code == expected
    answer = client.post("/api/v1/users", json=BOB)
    assert (answer.status_code, "hint" in answer.json()) == (expected, True)


def test_a_name_that_is_taken_is_a_conflict(admin: httpx2.Client) -> None:
    admin.post("/api/v1/users", json=BOB)
    answer = admin.post("/api/v1/users", json=BOB)
    assert (answer.status_code, answer.json()["name"]) == (409, "bob")


def test_a_wrong_password_is_401_and_guessing_is_429(
    server: ServerUnderTest, admin: httpx2.Client
) -> None:
    admin.post("/api/v1/users", json=BOB)
    guess = {"name": "bob", "password": "a wrong guess"}
    client = server.client()
    found = [client.post("/api/v1/login", json=guess).status_code for _ in range(6)]
    assert found == [401, 401, 401, 401, 401, 429]


@pytest.mark.parametrize("header", ["Bearer mfu_unknown", "Bearer other", "Bearer mfd_x"])
def test_a_token_that_is_not_known_is_401(server: ServerUnderTest, header: str) -> None:
    answer = server.client().get("/api/v1/me", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_is_made_listed_used_and_ended(server: ServerUnderTest) -> None:
    client = server.client(Role.OPERATOR)
    made = client.post("/api/v1/tokens", json={"name": "ci", "days": 7}).json()
    listed = client.get("/api/v1/tokens").json()["items"]
    assert listed[0]["name"] == "ci"
    assert made["token"] not in str(listed)
    ci = {"Authorization": f"Bearer {made['token']}"}
    assert server.client().get("/api/v1/me", headers=ci).json()["name"] == "operator"
    assert client.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    assert server.client().get("/api/v1/me", headers=ci).status_code == 401


def test_nobody_but_an_admin_sees_the_tokens_of_others(
    server: ServerUnderTest, admin: httpx2.Client
) -> None:
    viewer = server.client(Role.VIEWER)
    owners = {token["user"] for token in viewer.get("/api/v1/tokens").json()["items"]}
    assert owners == {"viewer"}
    owners = {token["user"] for token in admin.get("/api/v1/tokens").json()["items"]}
    assert owners == {"viewer", "admin"}


def test_a_page_writes_with_cookie_and_form_token(server: ServerUnderTest) -> None:
    with server.database.write() as session:
        wish = NewUser("eva", Role.ADMIN, PASSWORD)
        service.create_user(session, wish, actor=system("test"), at_ms=now_ms())
    attempt = Attempt("eva", PASSWORD, "10.0.0.1")
    cookie = service.log_in(
        server.database, Throttle(), attempt, TokenKind.SESSION, now=now_ms()
    ).secret
    client = server.client()
    client.cookies.set(SESSION_COOKIE, cookie)
    assert client.get("/api/v1/me").json()["name"] == "eva"
    assert client.post("/api/v1/users", json=BOB).status_code == 403
    headers = {"X-Form-Token": form_token(cookie)}
    assert client.post("/api/v1/users", json=BOB, headers=headers).status_code == 201


def test_a_form_field_carries_the_token_as_well(server: ServerUnderTest) -> None:
    """The body of a form is read by the guard and again by the route."""
    with server.database.write() as session:
        wish = NewUser("eva", Role.ADMIN, PASSWORD)
        service.create_user(session, wish, actor=system("test"), at_ms=now_ms())
    attempt = Attempt("eva", PASSWORD, "10.0.0.1")
    cookie = service.log_in(
        server.database, Throttle(), attempt, TokenKind.SESSION, now=now_ms()
    ).secret
    client = server.client()
    client.cookies.set(SESSION_COOKIE, cookie)
    path = "/api/v1/tokens"
    with_token = client.post(path, data={"form_token": form_token(cookie), "name": "x"})
    without = client.post(path, data={"name": "x"})
    # 422: the guard let it in, and this route takes JSON only
    assert (with_token.status_code, without.status_code) == (422, 403)
