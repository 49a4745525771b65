"""Jobs over HTTP and by command."""

from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest
from tests.support.commands import Commands
from tests.support.jobs import EXECUTOR
from tests.support.server import ServerUnderTest

from modelfleet_server.jobs import service
from modelfleet_server.jobs.domain import Progress
from modelfleet_server.jobs.kinds import Kinds
from modelfleet_server.jobs.run import Ticket
from modelfleet_server.jobs.service import Wish
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.errors import InvalidError


@pytest.fixture
def jobs(server: ServerUnderTest) -> list[str]:
    """Six: the first failed, the second runs, the others wait. Their ids."""
    with server.database.write() as session:
        rows = [
            service.submit(
                session,
                Wish("bake", str(number), f"shop/{number % 2}", msgspec.Struct()),
                actor="user:ada",
                at_ms=number,
            )
            for number in range(1, 7)
        ]
        for row in rows[:2]:
            service.begin(session, row.id, 1, EXECUTOR, at_ms=10)
        first, second = (Ticket(row.id, EXECUTOR, 1) for row in rows[:2])
        error = InvalidError("the dough is too wet", "Add flour.")
        service.fail(session, server.parts.get(Kinds), first, error, at_ms=11)
        service.note_progress(session, second, Progress("kneading", 2, 3))
        return [row.id for row in rows]


@pytest.fixture
def operator(server: ServerUnderTest, tmp_path: Path) -> Commands:
    return Commands(
        tmp_path,
        {"MODELFLEET_SERVER": server.url, "MODELFLEET_TOKEN": server.token(Role.OPERATOR)},
    )


def test_jobs_are_listed_newest_first_filtered_and_paged(
    server: ServerUnderTest, jobs: list[str]
) -> None:
    viewer = server.client(Role.VIEWER)
    seen: list[str] = []
    cursor = None
    while True:
        asked = {"limit": 4} | ({"cursor": cursor} if cursor else {})
        page = viewer.get("/api/v1/jobs", params=asked).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == jobs[::-1]
    for asked, count in (
        ({"state": "queued"}, 4),
        ({"state": "failed"}, 1),
        ({"lane": "shop/1"}, 3),
        ({"kind": "bake"}, 6),
        ({"kind": "build"}, 0),
    ):
        items = viewer.get("/api/v1/jobs", params=asked).json()["items"]
        assert len(items) == count, asked


def test_a_running_job_shows_how_far_it_is_and_a_failed_one_why(
    server: ServerUnderTest, jobs: list[str]
) -> None:
    viewer = server.client(Role.VIEWER)
    runs = viewer.get(f"/api/v1/jobs/{jobs[1][:8]}").json()
    assert (runs["step"], runs["done"], runs["of"]) == ("kneading", 2, 3)
    failed = viewer.get(f"/api/v1/jobs/{jobs[0]}").json()
    assert (failed["code"], failed["hint"]) == ("invalid", "Add flour.")
    assert failed["reason"] == "the dough is too wet"
    missing = viewer.get("/api/v1/jobs/nobody")
    assert missing.status_code == HTTPStatus.NOT_FOUND


def test_only_operators_cancel_and_only_what_is_open(
    server: ServerUnderTest, jobs: list[str]
) -> None:
    path = f"/api/v1/jobs/{jobs[1]}/cancel"
    assert server.client(Role.TECHNICIAN).post(path).status_code == HTTPStatus.FORBIDDEN
    client = server.client(Role.OPERATOR)
    ended = client.post(path).json()
    assert (ended["state"], ended["code"]) == ("cancelled", "job-cancelled")
    assert ended["reason"] == "user:operator cancelled it"
    again = client.post(path)
    assert again.status_code == HTTPStatus.CONFLICT
    assert again.json()["code"] == "job-state"


def test_the_commands_list_show_watch_and_cancel(
    operator: Commands, jobs: list[str]
) -> None:
    listed = operator.call("job", "list", "--limit", "2")
    assert listed.code == 0
    assert "shop/0" in listed.out
    assert "There are more" in listed.err
    assert "kneading" in operator.call("job", "list", "--state", "running").out
    assert (
        len(operator.call("job", "list", "--json", "--limit", "0").document["items"]) == 6
    )

    shown = operator.call("job", "show", jobs[1][:10])
    assert "kneading 2 of 3" in shown.out
    assert operator.call("job", "show", "--json", jobs[0]).document["id"] == jobs[0]

    watched = operator.call("job", "watch", jobs[0])
    assert watched.code == 3
    assert "the dough is too wet" in watched.out
    waits = operator.call("job", "watch", jobs[2], "--timeout", "1ms")
    assert waits.code == 3
    assert "is queued after" in waits.err

    refused = operator.call("job", "cancel", jobs[2], "--json")
    assert refused.code == 4
    cancelled = operator.call("job", "cancel", jobs[2], "--yes", "--json")
    assert cancelled.document["state"] == "cancelled"
    assert operator.call("job", "cancel", jobs[2], "--yes").code == 5
    assert operator.call("job", "show", "nobody").code == 4
