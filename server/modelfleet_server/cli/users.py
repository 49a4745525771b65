"""`login`, `logout`, `user`: who the commands act as, and who else may."""

import os
from pathlib import Path
from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.account import (
    Account,
    Login,
    check_url,
    find_account,
    login_path,
    write_login,
)
from modelfleet_server.cli.client import Client
from modelfleet_server.cli.run import Limit, Run, command, subject
from modelfleet_server.cli.secrets import find_password
from modelfleet_server.kit.errors import InvalidError

ROLES = ("viewer", "technician", "operator", "approver", "admin")
DEFAULT_LIMIT = 100

PasswordFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Holds the password [env MODELFLEET_PASSWORD]."),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, example="login --server http://127.0.0.1:8080 --user admin")(login)
    command(app, example="logout", asks=False)(logout)
    users = subject("Who may do what.")
    command(users, "create", example="user create ada --role operator")(create)
    command(users, "list", example="user list")(list_users)
    app.add_typer(users, name="user")


def login(
    run: Run,
    user: Annotated[str, typer.Option(metavar="NAME", help="Who you are.")] = "admin",
    password_file: PasswordFile = None,
) -> None:
    """Log in, and store the token for the commands that follow."""
    server = find_account(run.named_server, "-", os.environ).server
    client = Client(Account(check_url(server), ""))
    body = {"name": user, "password": find_password(password_file)}
    try:
        issued = client.post("/login", body)
    finally:
        client.close()
    path = login_path(os.environ)
    write_login(path, Login(server, user, issued["token"], issued["expires_ms"]))
    done = {
        "server": server,
        "user": user,
        "expires_ms": issued["expires_ms"],
        "stored": str(path),
    }
    until = words.moment(issued["expires_ms"])
    run.screen.show(
        done,
        lambda: run.screen.say(f"Logged in to {server} as {user} until {until} UTC."),
    )


def logout(run: Run) -> None:
    """Forget the stored login."""
    path = login_path(os.environ)
    there = path.exists()
    path.unlink(missing_ok=True)
    run.screen.show(
        {"stored": None, "forgotten": there},
        lambda: run.screen.say("Logged out." if there else "Nobody was logged in."),
    )


def create(
    run: Run,
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and -.")],
    role: Annotated[str, typer.Option(help=", ".join(ROLES))] = "operator",
    password_file: PasswordFile = None,
) -> None:
    """Add a user."""
    if role not in ROLES:
        raise InvalidError(f"the role {role!r} is not known", f"Roles: {', '.join(ROLES)}.")
    password = find_password(password_file, new=True)
    made = run.client.post("/users", {"name": name, "role": role, "password": password})
    run.screen.show(
        made, lambda: run.screen.say(f"{made['name']} may log in as {made['role']}.")
    )


def list_users(run: Run, limit: Limit = DEFAULT_LIMIT) -> None:
    """List users by name."""
    found = run.client.list("/users", limit)
    rows = [
        [
            one["name"],
            one["role"],
            "disabled" if one["disabled"] else "",
            words.moment(one["created_ms"]),
        ]
        for one in found.items
    ]
    run.show_list(found, ["name", "role", "state", "since"], rows)
