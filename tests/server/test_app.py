"""The application as a whole: health, errors, headers, and that every route is guarded."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from tests.support.server import ServerUnderTest

from modelfleet_server.app import create_app
from modelfleet_server.app.web import CONTENT_SECURITY_POLICY
from modelfleet_server.kit.access import DeviceCheck, Role, RoleCheck, require
from modelfleet_server.kit.parts import Parts

PUBLIC = {
    # nobody is known yet, or a proxy and a probe must get through
    "GET /api/v1/health",
    "GET /api/v1/openapi.json",
    "HEAD /api/v1/openapi.json",
    "POST /api/v1/login",
    # named by a digest or signed: public by design
    "GET /blobs/sha256/{digest}",
    "HEAD /blobs/sha256/{digest}",
    "GET /tuf/metadata/{name:path}",
    "GET /tuf/targets/{name:path}",
    "GET /tuf/time/{nonce}",
    "GET /deltas/{new}/{old}",
    # the login page, and what it looks like
    "GET /login",
    "POST /login",
    "* /static",
    # a claim token in the body stands in for a login
    "POST /api/v1/enrol",
}
"""Routes without a role check, each for a reason."""


def test_health_needs_no_login(server: ServerUnderTest) -> None:
    answer = server.client().get("/api/v1/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"


def unguarded(app: FastAPI) -> set[str]:
    """Return `METHOD path` of each route that checks nobody."""
    found = set()
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context, "dependant", None)
        calls = [] if dependant is None else list(_calls(dependant))
        if not any(isinstance(call, RoleCheck | DeviceCheck) for call in calls):
            found |= {f"{method} {context.path}" for method in context.methods or {"*"}}
    return found


def test_every_route_checks_a_role_or_is_listed_as_public() -> None:
    assert unguarded(create_app(Parts())) == PUBLIC


def test_the_walk_over_routes_finds_an_open_one_and_believes_a_guarded_one() -> None:
    app = create_app(Parts())
    open_, guarded = APIRouter(), APIRouter(dependencies=[Depends(require(Role.VIEWER))])
    open_.add_api_route("/open", lambda: None)
    guarded.add_api_route("/guarded", lambda: None)
    app.include_router(open_, prefix="/more")
    app.include_router(guarded, prefix="/more")
    app.mount("/files", FastAPI(openapi_url=None))
    assert unguarded(app) - PUBLIC == {"GET /more/open", "* /files"}


def _calls(dependant: Dependant) -> Iterator[object]:
    yield dependant.call
    for below in dependant.dependencies:
        yield from _calls(below)


def test_every_answer_carries_the_security_headers(server: ServerUnderTest) -> None:
    for path in ("/api/v1/health", "/nowhere"):
        headers = server.client().get(path).headers
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_an_unknown_path_is_a_problem_document(server: ServerUnderTest) -> None:
    answer = server.client().get("/nowhere")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not-found"


def test_a_malformed_request_names_the_field_and_not_its_value(
    server: ServerUnderTest,
) -> None:
    wish = {"name": "ada", "password": 7, "role": "admin"}
    answer = server.client(Role.ADMIN).post("/api/v1/users", json=wish)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["where"] == "body.password"
    assert "7" not in answer.json()["detail"]


def test_a_defect_tells_nothing_but_a_number(server: ServerUnderTest) -> None:
    with server.database.write() as session:
        session.connection().exec_driver_sql("DROP TABLE access_token")
    answer = server.client().get("/api/v1/me", headers={"Authorization": "Bearer mfu_x"})
    assert answer.status_code == 500
    assert answer.json()["code"] == "defect"
    assert answer.json()["incident"] in answer.json()["hint"]
    assert "access_token" not in answer.text


def test_more_writers_than_threads_all_get_their_turn(server: ServerUnderTest) -> None:
    """Would hang if a request held a thread while it waits for the writer's turn to end."""
    client = server.client(Role.OPERATOR)

    def make(number: int) -> int:
        return client.post("/api/v1/tokens", json={"name": f"t{number}"}).status_code

    with ThreadPoolExecutor(80) as pool:
        assert set(pool.map(make, range(160))) == {201}
