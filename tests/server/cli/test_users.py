"""Logins: stored for their owner only, never shown to another server."""

import json
from pathlib import Path

from tests.support.commands import Commands
from tests.support.server import ServerUnderTest

PASSWORD = "a long enough password"


def make_user(admin: Commands, name: str) -> None:
    done = admin.acting(MODELFLEET_PASSWORD=PASSWORD).call(
        "user", "create", name, "--role", "viewer", "--json"
    )
    assert done.document["role"] == "viewer"


def log_in(fleet: ServerUnderTest, admin: Commands, user: Commands, name: str) -> None:
    make_user(admin, name)
    (user.folder / "password").write_text(PASSWORD + "\n")
    file = user.folder / "password"
    done = user.call(
        "login", "--server", fleet.url, "--user", name, "--password-file", file
    )
    assert done.code == 0, done.err


def test_a_login_is_stored_for_its_owner_only_and_used_from_then_on(
    fleet: ServerUnderTest, admin: Commands, nobody: Commands
) -> None:
    log_in(fleet, admin, nobody, "ada")
    stored = nobody.folder / "login.json"
    assert stored.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in stored.read_text()
    assert nobody.call("device", "list", "--json").code == 0


def test_a_stored_login_is_not_shown_to_another_server(
    fleet: ServerUnderTest, admin: Commands, nobody: Commands
) -> None:
    log_in(fleet, admin, nobody, "grace")
    other = fleet.url.replace("127.0.0.1", "localhost")
    assert nobody.call("device", "list", "--server", fleet.url + "/").code == 0
    assert nobody.call("device", "list", "--server", other).code == 6


def test_logout_forgets_the_login(
    fleet: ServerUnderTest, admin: Commands, nobody: Commands
) -> None:
    log_in(fleet, admin, nobody, "mary")
    assert nobody.call("logout").code == 0
    assert nobody.call("device", "list", "--server", fleet.url).code == 6


def test_a_wrong_password_stores_nothing(fleet: ServerUnderTest, nobody: Commands) -> None:
    wrong = nobody.acting(MODELFLEET_PASSWORD="wrong and long enough")
    done = wrong.call("login", "--server", fleet.url, "--user", "eve", "--json")
    assert done.code == 6
    assert not (nobody.folder / "login.json").exists()


def test_a_password_that_nobody_can_be_asked_for_is_missing(
    fleet: ServerUnderTest, nobody: Commands
) -> None:
    done = nobody.call("login", "--server", fleet.url, "--json")
    assert done.code == 4
    assert "MODELFLEET_PASSWORD" in done.error["hint"]


def test_a_damaged_login_file_is_named(nobody: Commands) -> None:
    path = nobody.folder / "login.json"
    path.write_text("{}")
    done = nobody.call("device", "list", "--json")
    assert done.code == 4
    assert str(path) in done.error["what"]


def test_the_login_file_follows_xdg(
    fleet: ServerUnderTest, admin: Commands, tmp_path: Path
) -> None:
    make_user(admin, "joan")
    user = Commands(
        tmp_path,
        {
            "MODELFLEET_CONFIG": "",
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "MODELFLEET_PASSWORD": PASSWORD,
        },
    )
    done = user.call("login", "--server", fleet.url, "--user", "joan", "--json")
    stored = tmp_path / "config" / "modelfleet" / "login.json"
    assert done.document["stored"] == str(stored)
    assert json.loads(stored.read_text())["user"] == "joan"


def test_users_are_listed_and_a_name_is_taken_once(admin: Commands) -> None:
    make_user(admin, "edith")
    again = admin.acting(MODELFLEET_PASSWORD=PASSWORD).call(
        "user", "create", "edith", "--json"
    )
    assert again.code == 5
    listed = admin.call("user", "list", "--json").document["items"]
    assert "edith" in {one["name"] for one in listed}
    assert "edith" in admin.call("user", "list").out
