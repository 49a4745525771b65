"""The whole server on PostgreSQL: what it does on SQLite all day, once from end to end."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from sqlmodel import select
from tests.server.builds.desk import Desk
from tests.support.databases import Cluster, postgresql
from tests.support.lines import make_engine, make_line, operate, publish_releases, target
from tests.support.server import ServerUnderTest
from tests.support.waiting import eventually

from modelfleet_server.builds import service as builds
from modelfleet_server.compliance import service as compliance
from modelfleet_server.compliance.domain import Compliance
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.clock import now_ms

__all__ = ["postgresql"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(
    postgresql: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerUnderTest]:
    home = tmp_path_factory.mktemp("pg") / "fleet"
    started = ServerUnderTest.start(home, database=postgresql.make())
    yield started
    started.stop()


def test_a_rollout_reaches_devices_and_they_comply(server: ServerUnderTest) -> None:
    publish_releases(server, "1.0.0", "1.1.0")
    devices = make_line(server, 3)
    operate(server, "deployments", **target("1.0.0"))
    for device in devices:
        device.follow()
    make_engine(server).tick()
    with server.database.read() as session:
        seen = compliance.overview(session, None, now_ms=now_ms())
    assert seen.counts[Compliance.COMPLIANT] == 3


def test_a_model_is_built_by_a_job(server: ServerUnderTest, tmp_path: Path) -> None:
    desk = Desk(server.database, server.blobs, tmp_path)
    version = desk.publish("generic", model="demo/built")

    def ended() -> bool:
        with server.database.read() as session:
            return builds.all_done(session, version)

    eventually(ended, "it is built", 60)
    with server.database.read() as session:
        job = session.exec(select(Job).where(Job.lane == "demo/built")).one()
    assert (job.state, job.losses) == ("done", 0)
    listed = server.client(Role.VIEWER).get("/api/v1/jobs").json()["items"]
    assert job.id in [one["id"] for one in listed]


def test_every_list_answers(server: ServerUnderTest) -> None:
    client = server.client(Role.ADMIN)
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    asked = 0
    for path, methods in paths.items():
        needs = [
            one for one in methods.get("get", {}).get("parameters", []) if one["required"]
        ]
        if "get" in methods and "{" not in path and not needs:
            answer = client.get(path)
            # a few are for devices only
            known = {HTTPStatus.OK, HTTPStatus.FORBIDDEN}
            assert answer.status_code in known, f"{path}: {answer.text}"
            asked += answer.status_code == HTTPStatus.OK
    assert asked > 10
