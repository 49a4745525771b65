"""What holds for every command: help, exit codes, JSON, errors."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.server.cli.conftest import commands_of
from tests.support.commands import ROOT, RUN, Commands
from tests.support.server import ServerUnderTest

from modelfleet_manifests.errors import BadNameError
from modelfleet_server.cli.exits import MEANING, Exit, ServerError, exit_of
from modelfleet_server.cli.root import app
from modelfleet_server.kit import errors
from modelfleet_server.kit.access import Role

HEAVY = (
    "fastapi",
    "sqlalchemy",
    "sqlmodel",
    "onnx",
    "onnxruntime",
    "tuf",
    "httpx2",
    "rich",
)


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, one in getattr(command, "commands", {}).items():
        if hasattr(one, "commands"):
            yield from leaves(one, (*path, name))
        else:
            yield " ".join((*path, name)), one


COMMANDS = dict(leaves(typer.main.get_command(app)))
OURS = {name: one for name, one in COMMANDS.items() if not name.startswith("delta")}


@pytest.mark.parametrize("name", OURS)
def test_every_command_has_a_help_text_with_an_example_and_json(name: str) -> None:
    command = OURS[name]
    assert command.help
    assert f"modelfleet {name}" in command.epilog
    assert "--json" in {text for one in command.params for text in one.opts}


def test_every_command_of_the_program_is_in_the_documentation() -> None:
    told = (ROOT / "docs" / "commands.md").read_text()
    for name in COMMANDS:
        assert f"`{name}" in told, name


def test_the_documentation_and_the_help_tell_the_same_exit_codes(nobody: Commands) -> None:
    told = (ROOT / "docs" / "commands.md").read_text()
    assert re.findall(r"^\| (\d) \|", told, re.MULTILINE) == [f"{code:d}" for code in Exit]
    shown = nobody.call("--help").out
    for code, words in MEANING.items():
        assert f"| {code:d} | {words}" in told
        assert f"{code:d}  {words}" in shown


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidError("x"), Exit.REFUSED),
        (errors.NotFoundError("x"), Exit.REFUSED),
        (BadNameError("x", "y"), Exit.REFUSED),
        (errors.ConflictError("x"), Exit.CONFLICT),
        (errors.UnauthorizedError("x"), Exit.NOT_ALLOWED),
        (errors.ForbiddenError("x"), Exit.NOT_ALLOWED),
        (errors.UnavailableError("x"), Exit.LATER),
        (errors.TooManyError("x"), Exit.LATER),
        (ServerError(404, "not-found", "x", "", {}), Exit.REFUSED),
        (ServerError(409, "conflict", "x", "", {}), Exit.CONFLICT),
        (ServerError(403, "forbidden", "x", "", {}), Exit.NOT_ALLOWED),
        (ServerError(503, "unavailable", "x", "", {}), Exit.LATER),
        (ServerError(500, "defect", "x", "", {}), Exit.DEFECT),
        (ZeroDivisionError(), Exit.DEFECT),
    ],
)
def test_what_goes_wrong_decides_the_exit_code_here_and_on_the_server(
    error: Exception, code: Exit
) -> None:
    assert exit_of(error) is code


def test_help_loads_nothing_that_is_slow_to_import(nobody: Commands) -> None:
    program = (
        "import sys; from modelfleet_server.cli import main; main(['--help']);"
        f"sys.exit(' '.join(one for one in {HEAVY} if one in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=nobody.variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.strip() == ""


def test_a_wrong_command_line_is_told_in_words(nobody: Commands) -> None:
    done = nobody.call("device", "claim")
    assert (done.code, done.out) == (2, "")
    assert "DEVICE" in done.err


def test_a_wrong_command_line_is_told_in_json(nobody: Commands) -> None:
    done = nobody.call("device", "claim", "--json")
    assert done.code == 2
    assert done.error["code"] == "usage"


def test_a_server_that_is_not_there_is_named(nobody: Commands) -> None:
    done = nobody.run("device", "list", "--server", "http://127.0.0.1:1")
    assert done.code == 7
    assert "http://127.0.0.1:1 cannot be reached" in done.err
    assert "modelfleet serve" in done.err


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "ftp://x", "http://[", "http://a b"])
def test_what_is_no_address_is_bad_input(nobody: Commands, address: str) -> None:
    done = nobody.call("device", "list", "--server", address, "--json")
    assert done.code == 4
    assert "http://127.0.0.1:8080" in done.error["hint"] or address in done.error["what"]


def test_another_server_than_ours_is_told_apart(
    fleet: ServerUnderTest, nobody: Commands
) -> None:
    done = nobody.call("device", "list", "--server", f"{fleet.url}/blobs", "--json")
    assert done.code in {4, 7}


def test_without_a_login_the_command_says_how_to_log_in(
    fleet: ServerUnderTest, nobody: Commands
) -> None:
    done = nobody.call("device", "list", "--server", fleet.url, "--json")
    assert done.code == 6
    assert done.error["code"] == "unauthorized"
    assert "modelfleet login" in done.error["hint"]


def test_a_role_that_is_too_low_is_not_allowed(
    fleet: ServerUnderTest, tmp_path: Path
) -> None:
    viewer = commands_of(fleet, tmp_path, Role.VIEWER)
    done = viewer.call("device", "claim", "cam-1", "--json")
    assert done.code == 6
    assert done.error["needs"] == "operator"


@pytest.mark.parametrize(
    "wish",
    [
        ("device", "retire", "cam-1"),
        ("group", "delete", "line"),
        ("rollback", "demo/digits@1.0.0", "--group", "line"),
        ("revoke", "0" * 64, "--reason", "x"),
        ("proposal", "withdraw", "0" * 32),
    ],
)
def test_what_destroys_asks_first_and_takes_yes_where_nobody_can_be_asked(
    admin: Commands, wish: tuple[str, ...]
) -> None:
    done = admin.call(*wish)
    assert done.code == 4
    assert "--yes" in done.err


def test_names_from_the_fleet_cannot_steer_the_terminal_or_the_address(
    admin: Commands,
) -> None:
    done = admin.call("device", "show", "../users\x1b[31m")
    assert done.code == 4
    assert "\x1b" not in done.err
    assert "users" in done.err


@pytest.mark.parametrize(
    ("answer", "code"), [("n", "declined"), ("", "declined"), ("y", "not-found")]
)
def test_a_person_is_asked_and_their_answer_counts(
    admin: Commands, answer: str, code: str
) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    done = subprocess.run(
        [sys.executable, "-c", RUN, "proposal", "withdraw", "0" * 32],
        env=admin.variables,
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(keyboard)
    os.close(terminal)
    assert done.returncode == 4
    assert "Withdraw" in done.stderr
    assert f"[{code}]" in done.stderr


def test_the_shell_completes_commands(nobody: Commands) -> None:
    done = nobody.acting(
        _MODELFLEET_COMPLETE="complete_bash", COMP_WORDS="modelfleet rol", COMP_CWORD="1"
    ).run()
    assert done.out.split() == ["rollback", "rollout"]
