"""Deltas over HTTP: what is planned, made and dropped, page by page."""

import httpx2
import pytest
from tests.support.server import ServerUnderTest

from modelfleet_server.deltas.domain import State
from modelfleet_server.deltas.tables import Delta
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.clock import now_ms


@pytest.fixture
def viewer(server: ServerUnderTest) -> httpx2.Client:
    states = [State.MADE, State.DROPPED, State.POSTPONED]
    with server.database.write() as session:
        for number, state in enumerate(states):
            session.add(
                Delta(
                    new="1" * 64, old=str(number) * 64, release="f" * 64,
                    model="demo/digits", version="1.1.0", profile="generic", state=state,
                    devices=number + 1, size=1000, whole=900, estimate=100, length=90,
                    reason="because", changed_ms=now_ms() + number, needed_ms=now_ms(),
                )
            )  # fmt: skip
    return server.client(Role.VIEWER)


def test_deltas_are_listed_with_state_and_reason_the_newest_first(
    viewer: httpx2.Client,
) -> None:
    first = viewer.get("/api/v1/deltas", params={"limit": 2}).json()
    rest = viewer.get("/api/v1/deltas", params={"cursor": first["next"]}).json()
    rows = [*first["items"], *rest["items"]]
    assert [one["state"] for one in rows] == ["postponed", "dropped", "made"]
    assert [one["saved"] for one in rows] == [0, 0, 810]
    assert {one["reason"] for one in rows} == {"because"}
    assert rest["next"] is None


def test_deltas_are_found_by_state_and_version(viewer: httpx2.Client) -> None:
    made = viewer.get("/api/v1/deltas", params={"state": "made"}).json()["items"]
    assert [one["devices"] for one in made] == [1]
    none = viewer.get("/api/v1/deltas", params={"version": "9.9.9"}).json()["items"]
    assert none == []


def test_a_plan_for_what_is_not_there_says_so(server: ServerUnderTest) -> None:
    wish = {"model": "demo/digits", "version": "1.0.0"}
    answer = server.client(Role.OPERATOR).post("/api/v1/deltas/plans", json=wish)
    assert answer.status_code == 404
    assert "there is no release 1.0.0 of demo/digits" in answer.text


def test_a_viewer_cannot_ask_for_deltas(server: ServerUnderTest) -> None:
    wish = {"model": "demo/digits", "version": "1.0.0"}
    answer = server.client(Role.VIEWER).post("/api/v1/deltas/plans", json=wish)
    assert answer.status_code == 403
