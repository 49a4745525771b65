"""Builds over HTTP."""

from http import HTTPStatus
from pathlib import Path

import pytest
from tests.server.builds.desk import Desk
from tests.support.jobs import fail_one, work_off
from tests.support.server import ServerUnderTest

from modelfleet_server.builds.errors import ChildError
from modelfleet_server.builds.worker import Builder, Stores
from modelfleet_server.jobs.kinds import Kinds
from modelfleet_server.kit.access import Role


@pytest.fixture
def desk(server: ServerUnderTest, tmp_path: Path) -> Desk:
    return Desk(server.database, server.blobs, tmp_path)


def fail_build(server: ServerUnderTest) -> str:
    """Fail the build whose turn it is; return its id."""
    error = ChildError("the build process was ended by SIGKILL", "Try again.")
    failed = fail_one(server.database, server.parts.get(Kinds), error)
    assert failed
    return failed


def test_builds_are_listed_by_version(server: ServerUnderTest, desk: Desk) -> None:
    version = desk.publish("generic", "arm64")
    desk.publish("armv7")
    client = server.client(Role.VIEWER)
    page = client.get("/api/v1/builds", params={"version": version}).json()
    assert {item["profile"] for item in page["items"]} == {"generic", "arm64"}
    assert {item["state"] for item in page["items"]} == {"queued"}
    assert len(client.get("/api/v1/builds").json()["items"]) == 3


def test_a_failed_build_is_shown_and_retried(server: ServerUnderTest, desk: Desk) -> None:
    desk.publish("generic")
    build = fail_build(server)
    shown = server.client(Role.VIEWER).get(f"/api/v1/builds/{build}").json()
    assert (shown["state"], shown["code"]) == ("failed", "build-child-died")
    assert "SIGKILL" in shown["reason"]
    assert shown["hint"] == "Try again."
    operator = server.client(Role.OPERATOR)
    again = operator.post(f"/api/v1/builds/{build}/retry")
    assert again.json()["state"] == "queued"
    twice = operator.post(f"/api/v1/builds/{build}/retry")
    assert twice.status_code == HTTPStatus.CONFLICT
    assert twice.json()["code"] == "build-state"


def test_a_build_shows_all_its_candidates(server: ServerUnderTest, desk: Desk) -> None:
    version = desk.publish("generic")
    stores = Stores(server.database, server.blobs, desk.folder / "scratch")
    assert work_off(server.database, Builder(stores).kind) == 1
    client = server.client(Role.VIEWER)
    (shown,) = client.get("/api/v1/builds", params={"version": version}).json()["items"]
    (full,) = shown["candidates"]
    assert full["name"] == "fp32"
    assert full["chosen"]
    assert full["disagreements"] == 0
    assert 0 < full["disagreement_high"] < 0.01
    assert shown["why"] == full["verdict"]


def test_only_operators_retry(server: ServerUnderTest, desk: Desk) -> None:
    desk.publish("generic")
    path = f"/api/v1/builds/{fail_build(server)}/retry"
    assert server.client().post(path).status_code == HTTPStatus.UNAUTHORIZED
    assert server.client(Role.TECHNICIAN).post(path).status_code == HTTPStatus.FORBIDDEN


def test_a_build_that_is_not_there_is_named(server: ServerUnderTest) -> None:
    answer = server.client(Role.VIEWER).get("/api/v1/builds/nobody")
    assert answer.status_code == HTTPStatus.NOT_FOUND
    assert answer.json()["code"] == "build-not-found"


def test_only_approvers_override_and_with_a_reason(
    server: ServerUnderTest, desk: Desk
) -> None:
    desk.publish("generic")
    path = f"/api/v1/builds/{fail_build(server)}/override"
    wish = {"candidate": "fp32", "reason": "measured on the plant's own devices"}
    operator = server.client(Role.OPERATOR).post(path, json=wish)
    assert operator.status_code == HTTPStatus.FORBIDDEN
    approver = server.client(Role.APPROVER)
    short = approver.post(path, json={**wish, "reason": "why not"})
    assert short.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    other = approver.post(path, json=wish)
    assert (other.status_code, other.json()["code"]) == (409, "build-not-gated")
