"""`init` and `serve`: all of a fleet's home, or nothing."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.commands import RUN, Commands
from tests.support.server import begin_fleet
from tests.support.waiting import eventually

from modelfleet_server.settings import Settings

PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def founder(tmp_path: Path) -> Commands:
    return Commands(
        tmp_path,
        {"MODELFLEET_PASSPHRASE": PASSPHRASE, "MODELFLEET_HOME": str(tmp_path / "fleet")},
    )


def test_init_makes_a_home_that_can_be_served_and_logged_in_to(founder: Commands) -> None:
    done = founder.run("init", "--solo", "--admin", "ada", "--json")
    begun = done.document
    home = Path(begun["home"])
    assert {path.name for path in home.iterdir()} == {
        "modelfleet.toml", "modelfleet.db", "keys", "approver.key"
    }  # fmt: skip
    for secret in (home / "approver.key", home / "keys" / "online.key"):
        assert secret.stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    assert any("alone" in sentence for sentence in begun["words"])
    with serving(founder, "--role", "api") as url:
        login = founder.acting(MODELFLEET_PASSWORD=begun["password"])
        done = login.call("login", "--server", url, "--user", "ada")
        assert done.code == 0, done.err
        made = login.call("user", "create", "bob", "--role", "operator")
        assert made.code == 0, made.err


def test_a_fleet_is_begun_once_in_a_home(founder: Commands) -> None:
    home = founder.folder / "fleet"
    begin_fleet(Settings(home))
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    done = founder.call("init", "--solo", "--json")
    assert done.code == 5
    assert done.error["code"] == "fleet-exists"
    after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert after == before


def test_a_key_file_that_is_there_is_not_overwritten_and_no_home_is_made(
    founder: Commands,
) -> None:
    key = founder.folder / "approver.key"
    key.write_text("somebody else's")
    done = founder.call("init", "--solo", "--approver-key", key, "--json")
    assert done.code == 5
    assert key.read_text() == "somebody else's"
    assert not (founder.folder / "fleet").exists()


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (("--admin", "Ada!"), "Ada!"),
        (("--passphrase-file", "short"), "passphrase"),
        (("--passphrase-file", "missing"), "missing"),
        (("--password-file", "short"), "password"),
    ],
)
def test_what_is_not_allowed_makes_no_home(
    founder: Commands, wish: tuple[str, str], words: str
) -> None:
    (founder.folder / "short").write_text("x\n")
    option, value = wish
    given = founder.folder / value if option.endswith("file") else value
    done = founder.call("init", "--solo", option, given, "--json")
    assert done.code == 4
    assert words in done.error["what"]
    assert not (founder.folder / "fleet").exists()


def test_a_home_that_fails_half_way_is_as_it_was_before(
    founder: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = founder.folder / "fleet"
    (home / "keys").mkdir(parents=True)
    (home / "modelfleet.toml").write_text("# mine\n")
    (home / "keys" / "online.key").symlink_to(home / "nowhere" / "online.key")
    done = founder.call("init", "--solo", "--json")
    assert done.code != 0
    assert {path.name for path in home.iterdir()} == {"keys", "modelfleet.toml"}
    assert (home / "modelfleet.toml").read_text() == "# mine\n"


def test_solo_has_to_be_said(founder: Commands) -> None:
    done = founder.call("init")
    assert done.code == 4
    assert "--solo" in done.err


def test_serving_without_a_fleet_makes_no_home(founder: Commands) -> None:
    done = founder.call("serve")
    assert done.code == 4
    assert "modelfleet init --solo" in done.err
    assert not (founder.folder / "fleet").exists()


@pytest.mark.parametrize(
    "wish", [("--role", "king"), ("--port", "99999"), ("--broker", "rabbit")]
)
def test_a_wish_that_cannot_be_served_is_bad_input(
    founder: Commands, wish: tuple[str, str]
) -> None:
    begin_fleet(Settings(founder.folder / "fleet"))
    done = founder.call("serve", "--port", "0", *wish)
    assert done.code == 4
    assert wish[1] in done.err or "port" in done.err


def test_a_port_that_is_taken_is_named(founder: Commands) -> None:
    begin_fleet(Settings(founder.folder / "fleet"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = founder.call("serve", "--role", "api", "--port", str(port))
    assert done.code == 7
    assert str(port) in done.err


class serving:  # noqa: N801 reads as a sentence
    """Runs `modelfleet serve` in a process of its own, until the block ends."""

    def __init__(self, commands: Commands, *arguments: str) -> None:
        self.home = Path(commands.variables["MODELFLEET_HOME"])
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, "serve", "--port", "0", *arguments],
            env=commands.variables,
            cwd=commands.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> str:
        address = self.home / "server.json"
        eventually(lambda: address.exists() or self.process.poll() is not None, "it serves")
        assert self.process.poll() is None
        return str(json.loads(address.read_text())["url"])

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
