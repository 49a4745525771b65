"""Key files, other keys, floors, and the end of a recall, by command."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.cli.conftest import commands_of
from tests.support.commands import Commands
from tests.support.lines import publish_releases
from tests.support.server import API, PASSPHRASE, ServerUnderTest

from modelfleet_server.kit.access import Role


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[ServerUnderTest]:
    """A server of its own: its keys change."""
    started = ServerUnderTest.start(tmp_path / "fleet", duties=API)
    yield started
    started.stop()


@pytest.fixture
def admin(fleet: ServerUnderTest, tmp_path: Path) -> Commands:
    (tmp_path / "admin").mkdir()
    return commands_of(fleet, tmp_path / "admin", Role.ADMIN)


def make_person(admin: Commands, folder: Path, fleet: str, name: str) -> Path:
    key = folder / f"{name}.key"
    made = admin.call("key", "new", str(key), "--fleet", fleet, "--json")
    assert made.document["fleet"] == fleet
    shown = folder / f"{name}.json"
    shown.write_text(admin.call("key", "show", str(key), "--json").out)
    return shown


def test_a_solo_fleet_becomes_two_of_three_by_command(
    fleet: ServerUnderTest, admin: Commands, tmp_path: Path
) -> None:
    publish_releases(fleet, "1.0.0")
    trust = fleet.client(Role.VIEWER).get("/api/v1/trust").json()
    people = [
        make_person(admin, tmp_path, trust["fleet"], name) for name in ("ann", "ben", "eve")
    ]
    named = [word for path in people for word in ("--person", str(path))]
    roles = [
        word
        for role in ("root", "targets", "namespaces")
        for word in ("--role", f"{role}=2")
    ]
    group = ("--group", f"{people[0]},{people[1]}")
    proposed = admin.call(
        "key", "propose", *roles, *named, *group, "--reason", "grow", "--json"
    ).document
    signed = admin.call("approve", proposed["id"], "--yes", "--json").document
    assert signed["state"] == "open"
    assert any("CHANGES who signs root to 2 of" in line for line in signed["changes"])
    for name in ("ann", "eve"):
        mine = admin.acting(MODELFLEET_APPROVER_KEY=str(tmp_path / f"{name}.key"))
        signed = mine.call("approve", proposed["id"], "--yes", "--json").document
    assert signed["state"] == "published"
    trust = fleet.client(Role.VIEWER).get("/api/v1/trust").json()
    assert {one["role"]: one["version"] for one in trust["roles"]}["root"] == 2


def test_a_recall_is_pardoned_by_command(fleet: ServerUnderTest, admin: Commands) -> None:
    publish_releases(fleet, "1.0.0")
    release = publish_id(fleet)
    revoked = admin.call("revoke", release, "--reason", "drifts", "--yes", "--json")
    assert revoked.document["state"] == "published"
    done = admin.call("pardon", release, "--reason", "was right", "--yes", "--json")
    assert done.document["changes"] == [
        f"ALLOWS AGAIN what tombstone/block/release/{release} forbids."
    ]
    again = admin.call("pardon", release, "--reason", "was right", "--yes", "--json")
    assert again.code == 5
    never = admin.call("pardon", "a" * 64, "--reason", "x", "--yes", "--json")
    assert never.code == 4


def test_a_range_is_stopped_and_pardoned_by_command(
    fleet: ServerUnderTest, admin: Commands
) -> None:
    publish_releases(fleet, "1.0.0", "1.1.0")
    what = "demo/digits@>=1.0.0,<1.1.0"
    stopped = admin.call("stop", what, "--reason", "crashes", "--yes", "--json").document
    assert stopped["state"] == "published"
    assert any(f"STOPS running ALL VERSIONS {what}" in one for one in stopped["changes"])
    say = ("--reason", "x", "--yes", "--json")
    assert admin.call("revoke", "demo/digits@>=7.0.0", *say).code == 4
    wrong = admin.call("stop", "demo/digits@>=1", *say)
    assert wrong.code == 4
    assert "MAJOR.MINOR.PATCH" in wrong.err
    done = admin.call("pardon", what, "--stop", "--reason", "right", "--yes", "--json")
    assert done.document["changes"] == [
        "ALLOWS AGAIN what tombstone/stop/range/demo:digits@1.0.0,1.1.0 forbids."
    ]


def test_a_floor_is_raised_and_lowered_by_command(
    fleet: ServerUnderTest, admin: Commands
) -> None:
    publish_releases(fleet, "1.0.0", "1.1.0")
    say = ("--reason", "leaks memory", "--yes", "--json")
    raised = admin.call("floor", "demo/digits", "1.1.0", *say).document
    assert raised["state"] == "published"
    assert raised["changes"] == ["Raises the floor of demo/digits from none to 1.1.0."]
    assert admin.call("floor", "demo/digits", "1.1.0", *say).code == 5
    lowered = admin.call("floor", "demo/digits", "1.0.0", *say).document
    assert lowered["changes"] == ["LOWERS the floor of demo/digits from 1.1.0 to 1.0.0."]
    proposed = admin.call("floor", "demo/digits", "none", "--propose", *say).document
    assert proposed["state"] == "open"
    for what in (("demo/digits", "1.x"), ("demo/nothing", "1.0.0"), ("digits", "1.0.0")):
        assert admin.call("floor", *what, *say).code == 4


def publish_id(fleet: ServerUnderTest) -> str:
    found = fleet.client(Role.VIEWER).get("/api/v1/proposals").json()["items"]
    detail = fleet.client(Role.VIEWER).get(f"/api/v1/proposals/{found[0]['id']}").json()
    payload = json.loads(detail["roles"][-1]["payload"])
    return str(next(iter(payload["targets"].values()))["hashes"]["sha256"])


def test_new_online_keys_are_made_beside_the_old_ones_and_proposed(
    fleet: ServerUnderTest, admin: Commands
) -> None:
    home = fleet.server.settings.home
    before = (home / "keys" / "online.key").read_bytes()
    wish = ("key", "rotate", "--role", "director", "--home", str(home))
    done = admin.call(*wish, "--reason", "copied", "--yes", "--json")
    assert [one["role"] for one in done.document["roles"]] == ["targets"]
    assert (home / "keys" / "online.2.key").exists()
    assert (home / "keys" / "online.key").read_bytes() == before
    approved = admin.call("approve", done.document["id"], "--yes", "--json").document
    assert "CHANGES the director's epoch to 2." in approved["changes"]


@pytest.mark.parametrize(
    "wish",
    [
        ("key", "new", "x.key", "--fleet", "not-an-id"),
        ("key", "show", "nothing.key"),
        ("key", "propose", "--role", "root", "--person", "p", "--reason", "x"),
        ("key", "rotate", "--role", "janitor", "--reason", "x", "--yes"),
    ],
)
def test_what_makes_no_sense_is_refused(admin: Commands, wish: tuple[str, ...]) -> None:
    assert admin.call(*wish, "--json").code == 4
    assert PASSPHRASE not in admin.call(*wish, "--json").err
