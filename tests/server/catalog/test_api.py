"""The whole way over HTTP: publish, approve, look at, revoke; and who may do what."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlmodel import Session, select
from tests.server.catalog.conftest import LINEAGE
from tests.support.fleet import FleetUnderTest, make_schema, make_variant
from tests.support.server import make_token

from modelfleet_manifests.release import Schema
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.catalog import api, service
from modelfleet_server.catalog.workshop import Workshop
from modelfleet_server.identity.domain import Throttle
from modelfleet_server.identity.service import authenticate
from modelfleet_server.kit.access import Authenticators, Role, RoleCheck
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.kit.parts import Parts
from modelfleet_server.kit.problems import register_problems
from modelfleet_server.trust import api as trust_api
from modelfleet_server.trust import approving, served
from modelfleet_server.trust.proposals import Publisher
from modelfleet_server.trust.tables import TrustMetadata

VERSIONS = "/api/v1/models/demo/digits/versions"


class Bench:
    """A workshop that takes any master but one, and remembers what was queued."""

    def __init__(self) -> None:
        self.queued: list[tuple[str, list[str]]] = []
        self.refused: str | None = None

    def inspect(self, digest: str) -> Schema:
        if digest == self.refused:
            raise InvalidError("the master is not an ONNX file", "Export it again.")
        return make_schema()

    def queue(
        self,
        session: Session,
        version_id: str,
        profiles: Sequence[str],
        *,
        actor: str,
        at_ms: int,
    ) -> None:
        assert session.in_transaction()
        assert actor == "user:operator"
        assert at_ms > 0
        self.queued.append((version_id, list(profiles)))


@pytest.fixture
def bench() -> Bench:
    return Bench()


Client = Callable[[Role | None], TestClient]


@pytest.fixture
def app(
    database: Database, blobs: BlobStore, fleet: FleetUnderTest, bench: Bench
) -> FastAPI:
    parts = Parts()
    for part in (database, blobs, fleet.publisher, Throttle()):
        parts.put(part)
    parts.put(Workshop(bench.inspect, bench.queue, ("generic", "x86-avx2")))
    parts.put(Authenticators([authenticate]))
    app = FastAPI()
    app.state.parts = parts
    register_problems(app)
    for router in (api.router, api.public, trust_api.router, served.public):
        app.include_router(router)
    assert parts.get(Publisher) is fleet.publisher
    return app


@pytest.fixture
def client(app: FastAPI, database: Database) -> Client:
    def make(role: Role | None = None) -> TestClient:
        headers = {}
        if role is not None:
            headers = {"Authorization": f"Bearer {make_token(database, role)}"}
        return TestClient(app, headers=headers)

    return make


@pytest.fixture
def wish(blobs: BlobStore) -> dict[str, Any]:
    return {
        "version": "1.0.0",
        "master": blobs.put(b"a master").digest,
        "evaluation": blobs.put(b"an evaluation set").digest,
        "lineage": LINEAGE,
    }


def _build(database: Database, version_id: str) -> None:
    """Do what the workers do."""
    with database.write() as session:
        for profile in ("generic", "x86-avx2"):
            variant = make_variant(profile, version_id)
            service.add_variant(session, version_id, variant, at_ms=now_ms())
        service.finish_building(session, version_id, now_ms=now_ms())


def _approve(client: TestClient, fleet: FleetUnderTest, proposal_id: str) -> Any:
    """Do what the command `approve` does, over HTTP only."""

    def fetch(name: str) -> bytes | None:
        answer = client.get(f"/tuf/metadata/{name}")
        return answer.content if answer.status_code == 200 else None

    answer = client.get(f"/api/v1/proposals/{proposal_id}").json()
    proposal = approving.read_proposal(answer)
    held = approving.fetch_in_force(fetch, fleet.fleet, proposal.roles)
    signatures = approving.sign(proposal, fleet.approver, held)
    return client.post(
        f"/api/v1/proposals/{proposal_id}/signatures",
        json={"signatures": [one._asdict() for one in signatures]},
    )


def test_a_model_is_published_approved_shown_and_revoked(
    client: Client,
    database: Database,
    fleet: FleetUnderTest,
    bench: Bench,
    wish: dict[str, Any],
) -> None:
    operator, approver = client(Role.OPERATOR), client(Role.APPROVER)
    answer = operator.post(VERSIONS, json=wish)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["state"], made["slots"]) == ("building", ["digits"])
    assert bench.queued == [(made["id"], ["generic", "x86-avx2"])]
    _build(database, made["id"])
    proposal = operator.get("/api/v1/releases/demo/digits/1.0.0").json()["proposal"]
    (waiting,) = operator.get("/api/v1/proposals?state=open").json()["items"]
    assert waiting["id"] == proposal
    signed = _approve(approver, fleet, proposal)
    assert (signed.status_code, signed.json()["state"]) == (200, "published")
    shown = client(Role.VIEWER).get("/api/v1/releases/demo/digits/1.0.0").json()
    assert shown["fit"] == {"level": "fits", "against": "", "changes": []}
    assert shown["state"] == "released"
    assert shown["lineage"]["hyperparameters"] == {"epochs": 12, "rate": "0.001"}
    assert shown["variants"][0]["metrics"] == {"accuracy": "0.98"}
    assert {one["actor"] for one in shown["approvals"]} == {"user:approver"}
    recall = {"name": shown["release"], "reason": "drifts"}
    proposed = operator.post("/api/v1/revocations", json=recall)
    assert proposed.status_code == 201
    assert _approve(approver, fleet, proposed.json()["id"]).status_code == 200
    (listed,) = operator.get("/api/v1/releases?state=revoked").json()["items"]
    assert listed["version"] == "1.0.0"


def test_a_version_that_exists_is_a_conflict_before_any_file_is_read(
    client: Client, bench: Bench, wish: dict[str, Any]
) -> None:
    operator = client(Role.OPERATOR)
    operator.post(VERSIONS, json=wish)
    bench.refused = wish["master"]
    answer = operator.post(VERSIONS, json=wish)
    assert (answer.status_code, answer.json()["code"]) == (409, "version-exists")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"version": "1.0"}, 422, "E_NAME"),
        ({"master": "0" * 64}, 404, "blob-missing"),
        ({"master": "x"}, 422, "invalid"),
        ({"lineage": {}}, 422, "lineage"),
        ({"slots": ["No"]}, 422, "E_NAME"),
        ({"rollback_to": ["2.0.0"]}, 422, "version-input"),
        ({"profiles": []}, 422, "invalid"),
        ({"demands": {"trial_ms": -1}}, 422, "invalid"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(
    client: Client,
    bench: Bench,
    wish: dict[str, Any],
    change: dict[str, object],
    status: int,
    code: str,
) -> None:
    operator = client(Role.OPERATOR)
    answer = operator.post(VERSIONS, json=wish | change)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert operator.get("/api/v1/releases").json()["items"] == []
    assert bench.queued == []


def test_a_master_that_is_refused_makes_no_version(
    client: Client, bench: Bench, wish: dict[str, Any]
) -> None:
    bench.refused = wish["master"]
    operator = client(Role.OPERATOR)
    assert operator.post(VERSIONS, json=wish).status_code == 422
    assert operator.get("/api/v1/releases").json()["items"] == []


def test_releases_are_listed_page_by_page_newest_first(
    client: Client, wish: dict[str, Any]
) -> None:
    operator = client(Role.OPERATOR)
    for number in range(5):
        answer = operator.post(VERSIONS, json=wish | {"version": f"1.{number}.0"})
        assert answer.status_code == 201
    seen: list[str] = []
    cursor = ""
    while True:
        page = operator.get(f"/api/v1/releases?limit=2{cursor}").json()
        seen += [one["version"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(seen) == [f"1.{number}.0" for number in range(5)]


@pytest.mark.parametrize(
    ("role", "method", "path", "allowed"),
    [
        (None, "GET", "/api/v1/releases", 401),
        (None, "GET", "/api/v1/proposals", 401),
        (Role.VIEWER, "POST", VERSIONS, 403),
        (Role.TECHNICIAN, "POST", "/api/v1/revocations", 403),
        (Role.OPERATOR, "POST", "/api/v1/proposals/x/signatures", 403),
        (Role.VIEWER, "POST", "/api/v1/proposals/x/withdraw", 403),
        (Role.VIEWER, "PUT", "/api/v1/models/demo/digits/channels/production", 403),
        (Role.VIEWER, "GET", "/api/v1/releases/demo/digits/1.0.0", 404),
        (None, "GET", "/api/v1/proposals/x", 401),
    ],
)
def test_roles_are_checked(
    client: Client, role: Role | None, method: str, path: str, allowed: int
) -> None:
    assert client(role).request(method, path, json={}).status_code == allowed


def test_every_route_but_the_public_ones_asks_for_a_role() -> None:
    for route in (*api.router.routes, *trust_api.router.routes):
        checks = [
            one.call
            for one in route.dependant.dependencies  # type: ignore[attr-defined]
            if isinstance(one.call, RoleCheck)
        ]
        assert len(checks) == 1, route


def test_an_approval_by_a_stranger_is_refused_and_publishes_nothing(
    client: Client,
    database: Database,
    fleet: FleetUnderTest,
    wish: dict[str, Any],
) -> None:
    made = client(Role.OPERATOR).post(VERSIONS, json=wish).json()
    _build(database, made["id"])
    approver = client(Role.APPROVER)
    (proposal,) = approver.get("/api/v1/proposals").json()["items"]
    forged = {"role": "targets", "key_id": "0" * 64, "signature": "0" * 128}
    answer = approver.post(
        f"/api/v1/proposals/{proposal['id']}/signatures", json={"signatures": [forged]}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "bad-signature")
    shown = approver.get(f"/api/v1/proposals/{proposal['id']}").json()
    assert [one["missing"] for one in shown["roles"]] == [1, 1, 1]
    withdrawn = client(Role.OPERATOR).post(f"/api/v1/proposals/{proposal['id']}/withdraw")
    assert withdrawn.json()["state"] == "withdrawn"
    again = client(Role.OPERATOR).post("/api/v1/releases/demo/digits/1.0.0/propose")
    assert again.json()["state"] == "proposed"


def test_a_channel_is_moved_and_shown_with_its_history(
    client: Client, database: Database, fleet: FleetUnderTest
) -> None:
    operator = client(Role.OPERATOR)
    path = "/api/v1/models/demo/digits/channels"
    missing = operator.put(f"{path}/production", json={"version": "1.0.0"})
    assert missing.status_code == 404
    assert operator.get(path).json() == []


def test_a_delta_is_found_by_anybody(
    client: Client, database: Database, blobs: BlobStore
) -> None:
    patch = service.Patch(blobs.put(b"a patch"), "td1", 1 << 20)
    with database.write() as session:
        service.offer_delta(session, "1" * 64, "2" * 64, patch, now_ms=1)
    found = client(None).get(f"/deltas/{'1' * 64}/{'2' * 64}")
    assert found.json() == {
        "blob": patch.blob.digest,
        "length": 7,
        "method": "td1",
        "memory": 1 << 20,
    }
    assert client(None).get(f"/deltas/{'2' * 64}/{'1' * 64}").status_code == 404
    assert client(None).get("/deltas/x/y").status_code == 422


def test_roles_about_to_expire_are_renewed(client: Client, fleet: FleetUnderTest) -> None:
    operator, approver = client(Role.OPERATOR), client(Role.APPROVER)
    answer = operator.post("/api/v1/renewals", json={"roles": ["revocations", "stops"]})
    assert answer.status_code == 201
    assert _approve(approver, fleet, answer.json()["id"]).json()["state"] == "published"
    assert approver.get("/tuf/metadata/2.stops.json").status_code == 200


def test_roles_that_end_soon_are_shown(
    client: Client, database: Database, fleet: FleetUnderTest
) -> None:
    now = now_ms()
    with database.write() as session:
        for row in session.exec(select(TrustMetadata)):
            days = {"targets": 15, "stops": 13, "timestamp": 2, "snapshot": 0}
            row.expires_ms = now + days.get(row.role, 400) * 86_400_000
            session.add(row)
    shown = client(Role.VIEWER).get("/api/v1/trust").json()
    assert (shown["fleet"], shown["epoch"]) == (fleet.fleet, 1)
    assert {one["role"]: one["ends_soon"] for one in shown["roles"]} == {
        "revocations": False,
        "root": False,
        "snapshot": True,
        "stops": True,
        "targets": False,
        "timestamp": False,
    }


def test_the_approver_file_lies_where_it_was_asked_for(
    fleet: FleetUnderTest, tmp_path: Path
) -> None:
    assert fleet.approver_path == tmp_path / "approver.key"
