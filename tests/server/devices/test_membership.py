"""Who is in a group, and what devices hear when that changes."""

from typing import Any

import pytest
from tests.support.devices import SimDevice
from tests.support.lines import make_line, operate, publish_releases, target
from tests.support.server import ServerUnderTest

from modelfleet_manifests.assignment import Assignment, ByGroup
from modelfleet_manifests.deployment import Deployment
from modelfleet_manifests.topics import deployment_topic, device_topic
from modelfleet_server.devices.tables import Departure
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.db import Database
from modelfleet_server.trust import director as documents


@pytest.fixture
def line(server: ServerUnderTest) -> list[SimDevice]:
    """Two devices of the group `line` that run 1.0.0."""
    publish_releases(server, "1.0.0", "1.1.0")
    devices = make_line(server, 2)
    operate(server, "deployments", **target("1.0.0"))
    for device in devices:
        device.follow()
    return devices


def group_id(server: ServerUnderTest, name: str = "line") -> str:
    groups = server.client(Role.VIEWER).get("/api/v1/groups").json()["items"]
    return str(next(one["id"] for one in groups if one["name"] == name))


def deployment(server: ServerUnderTest, group: str) -> Deployment:
    with server.database.read() as session:
        issued = documents.current(session, deployment_topic(group))
    assert issued is not None
    assert isinstance(issued.document, Deployment)
    return issued.document


def assignment(database: Database, device: str) -> Assignment:
    with database.read() as session:
        issued = documents.current(session, device_topic(device, "assignment"))
    assert issued is not None
    assert isinstance(issued.document, Assignment)
    return issued.document


def relabel(server: ServerUnderTest, device: str, **labels: str) -> dict[str, Any]:
    client = server.client(Role.OPERATOR)
    answer = client.put(f"/api/v1/devices/{device}/labels", json={"labels": labels})
    assert answer.is_success, answer.text
    return dict(answer.json())


def test_an_assignment_names_the_group_and_what_it_held_then(
    server: ServerUnderTest, line: list[SimDevice]
) -> None:
    group = group_id(server)
    governor = assignment(server.database, "cam-0").slots["digits"]
    assert isinstance(governor, ByGroup)
    assert governor.group == group
    assert governor.since.order <= deployment(server, group).header.order


def test_a_device_that_enrols_later_joins_and_gets_what_admits_it(
    server: ServerUnderTest, line: list[SimDevice]
) -> None:
    late = SimDevice.enrol(server, "cam-7", labels={"line": "a"})
    late.follow()
    assert late.slots["digits"].release is not None
    assert late.slots["digits"].release.version == "1.0.0"


def test_whoever_leaves_is_named_until_it_reports_the_newer_assignment(
    server: ServerUnderTest, line: list[SimDevice]
) -> None:
    group, device = group_id(server), line[0]
    device.hear()
    before = device.documents
    relabel(server, device.id, line="b")

    (left,) = deployment(server, group).left
    assert left.enrolment == device.enrolment
    assert left.order.order <= assignment(server.database, device.id).header.order
    assert not assignment(server.database, device.id).slots
    assert assignment(server.database, "cam-1").slots

    # a broker that withholds the assignment cannot keep it obeying the old group
    operate(server, "rollbacks", **target("1.1.0"))
    old = before.assignment
    device.hear()
    device.documents = type(before)(old, {group: deployment(server, group)})
    assert device.resolve()["digits"].reason == "waits-for-group"

    device.follow()
    with server.database.read() as session:
        assert session.get(Departure, (group, device.enrolment)) is None
    assert device.slots["digits"].release is not None
    assert device.slots["digits"].release.version == "1.0.0"


def test_where_groups_overlap_priority_settles_it_once_on_the_server(
    server: ServerUnderTest, line: list[SimDevice]
) -> None:
    operate(server, "groups", name="first", devices=["cam-0"], priority=5)
    operate(server, "deployments", **target("1.1.0", group="first"))
    for device in line:
        device.follow()
    versions = [
        device.slots["digits"].release.version
        for device in line
        if device.slots["digits"].release
    ]
    assert versions == ["1.1.0", "1.0.0"]


def test_a_group_that_governs_goes_only_when_that_is_said(
    server: ServerUnderTest, line: list[SimDevice]
) -> None:
    client = server.client(Role.OPERATOR)
    refused = client.delete("/api/v1/groups/line")
    assert refused.status_code == 409
    assert refused.json()["slots"] == ["digits"]
    group = group_id(server)
    assert client.delete("/api/v1/groups/line", params={"yes": "true"}).is_success
    with server.database.read() as session:
        assert documents.current(session, deployment_topic(group)) is None
    assert not assignment(server.database, "cam-0").slots
    # whoever is told nothing keeps what it runs
    line[0].follow()
    assert line[0].slots["digits"].release is not None


@pytest.mark.parametrize(
    ("wish", "status", "word"),
    [
        ({"name": "x", "selector": "line=z"}, 422, "matches no device"),
        ({"name": "x"}, 422, "selector or devices"),
        ({"name": "Not A Name", "selector": "line=a"}, 422, "name"),
        ({"name": "x", "devices": ["cam-0", "cam-77"]}, 404, "cam-77"),
        ({"name": "line", "selector": "line=a"}, 409, "already"),
    ],
)
def test_a_group_that_makes_no_sense_is_refused_and_says_why(
    server: ServerUnderTest,
    line: list[SimDevice],
    wish: dict[str, Any],
    status: int,
    word: str,
) -> None:
    answer = server.client(Role.OPERATOR).post("/api/v1/groups", json=wish)
    assert (answer.status_code, word in answer.text) == (status, True), answer.text
