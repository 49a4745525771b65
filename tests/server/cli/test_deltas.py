"""`delta plan` and `delta list`: what the server makes for its fleet, and why not."""

import pytest
from tests.support.commands import Commands
from tests.support.fleet import FleetUnderTest
from tests.support.server import PASSPHRASE, ServerUnderTest

from modelfleet_server.deltas.domain import State
from modelfleet_server.deltas.tables import Delta
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.trust.approver import open_approver
from modelfleet_server.trust.director import Director
from modelfleet_server.trust.proposals import Publisher

RELEASE = "demo/planned@1.0.0"


@pytest.fixture(scope="module", autouse=True)
def release(fleet: ServerUnderTest) -> None:
    """A signed release, and two deltas to it that were considered."""
    key = fleet.server.settings.home / "approver.key"
    director = fleet.parts.get(Director)
    approver = open_approver(key, PASSPHRASE)
    publisher = fleet.parts.get(Publisher)
    people = FleetUnderTest(director.fleet, approver, director, publisher, key)
    with fleet.database.write() as session:
        people.release(session, model="demo/planned", slots=["planned"], now_ms=now_ms())
        for old, state in (("a", State.MADE), ("b", State.DROPPED)):
            session.add(
                Delta(
                    new="1" * 64, old=old * 64, release="f" * 64, model="demo/planned",
                    version="1.0.0", profile="generic", state=state, devices=3,
                    size=4096, whole=3072, estimate=1024, length=1024,
                    reason=f"it was {state}", changed_ms=now_ms(), needed_ms=now_ms(),
                )
            )  # fmt: skip


def test_a_plan_is_waited_for_and_says_what_came_of_it(admin: Commands) -> None:
    done = admin.call("delta", "plan", RELEASE)
    assert done.code == 0, done.err
    assert f"{RELEASE}: done. Deltas: none is needed." in done.out


def test_a_plan_is_one_json_object(admin: Commands) -> None:
    found = admin.call("delta", "plan", RELEASE, "--retry", "--json").document
    assert (found["model"], found["state"], found["saved"]) == ("demo/planned", "done", 0)
    assert set(found["deltas"]) == set(State)


def test_deltas_are_listed_with_what_became_of_them(admin: Commands) -> None:
    done = admin.call("delta", "list", "--release", RELEASE)
    assert done.code == 0, done.err
    assert "it was made" in done.out
    assert "it was dropped" in done.out
    found = admin.call(
        *("delta", "list", "--release", RELEASE, "--state", "made", "--json")
    ).document
    assert [one["saved"] for one in found["items"]] == [2048]


def test_a_release_that_is_not_there_is_named(admin: Commands) -> None:
    done = admin.call("delta", "plan", "demo/planned@9.9.9")
    assert done.code != 0
    assert "there is no release 9.9.9 of demo/planned" in done.err
