"""`init` and `serve`: a fleet's home, and the server that works in it."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelfleet_server.cli.run import Run, command
from modelfleet_server.cli.secrets import find_passphrase, read_secret_file
from modelfleet_server.kit.errors import InvalidError, NotFoundError
from modelfleet_server.settings import Settings, load_settings

if TYPE_CHECKING:
    from modelfleet_server.app.wiring import Duty

Home = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where all of the server is [env MODELFLEET_HOME, ./fleet]."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, example="init --solo --home fleet", asks=False)(init)
    command(app, example="serve --home fleet --port 8080", asks=False)(serve)


def init(
    run: Run,
    solo: Annotated[
        bool, typer.Option("--solo", help="One key and one signature for every role.")
    ] = False,
    home: Home = None,
    approver_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The approver's new keys [HOME/approver.key]."),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Seals them [env MODELFLEET_PASSPHRASE]."),
    ] = None,
    admin: Annotated[str, typer.Option(metavar="NAME", help="The first user.")] = "admin",
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Their password; made up if not given."),
    ] = None,
) -> None:
    """Begin a fleet: home, keys, database, and the first user, an admin."""
    if not solo:
        raise InvalidError(
            "it is not said who begins the fleet",
            "Alone: --solo. Several people: modelfleet ceremony begin.",
        )
    settings = load_settings(home, environ=os.environ)
    from modelfleet_server.cli import founding

    wish = founding.Wish(
        settings=settings,
        approver_key=(approver_key or settings.home / "approver.key").absolute(),
        passphrase=find_passphrase(passphrase_file, new=True),
        admin=admin,
        password=read_secret_file(password_file) if password_file else None,
    )
    done = founding.found(wish)

    def tell() -> None:
        run.screen.say(f"The fleet {done['fleet']} was begun in {done['home']}.", "")
        run.screen.say(*done["words"], "")
        if done["password"]:
            run.screen.say(f"User {admin}, password {done['password']} (shown this once).")
        run.screen.say(
            f"Next: modelfleet serve --home {settings.home}",
            f"      modelfleet login --user {admin}",
        )

    run.screen.show(done, tell)


def serve(
    run: Run,
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Port of HTTP; 0: a free one.")
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(help="auto, embedded, mosquitto or mqtt://host:port."),
    ] = None,
    broker_port: Annotated[
        int | None, typer.Option(metavar="N", help="Port of a broker started here.")
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="How devices reach this server.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Builds at the same time.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="Do only this: api, bridge, worker, rollouts, signer; repeat it."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """Run the server until it is told to stop (Ctrl-C, SIGTERM)."""
    arguments = {
        "host": host,
        "port": port,
        "broker": broker,
        "broker_port": broker_port,
        "public_url": public_url,
        "workers": workers,
    }
    settings = load_settings(home, environ=os.environ, arguments=arguments)
    from modelfleet_server.app.server import Server
    from modelfleet_server.app.wiring import Duty

    duties = _duties(role or [])
    if Duty.SIGNER in duties:
        _check_begun(settings)
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    for noisy in ("alembic", "asyncio", "tuf", "securesystemslib", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    run.screen.note(f"starting in {settings.home}; {settings.address_file} tells where")
    Server(settings, duties).run()


def _check_begun(settings: Settings) -> None:
    """Look before anything is written; only the signer opens the file."""
    if not settings.online_key.exists():
        raise NotFoundError(
            f"no fleet was begun in {settings.home}",
            "Begin one: modelfleet init --solo.",
            home=str(settings.home),
        )


def _duties(words: list[str]) -> "frozenset[Duty]":
    from modelfleet_server.app.wiring import Duty

    if not words:
        return frozenset(Duty)
    try:
        return frozenset(Duty(word) for word in words)
    except ValueError as error:
        raise InvalidError(
            f"the role is not known: {error}", f"Roles are {', '.join(Duty)}."
        ) from None
