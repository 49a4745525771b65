"""`ceremony`: several people begin a fleet by a file that goes from hand to hand."""

import os
from pathlib import Path
from typing import Annotated

import typer

from modelfleet_server.cli.home import Home
from modelfleet_server.cli.keys import PassphraseFile, read_threshold
from modelfleet_server.cli.run import Run, Yes, command, subject
from modelfleet_server.cli.secrets import find_passphrase, read_secret_file
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.settings import load_settings

Ceremony = Annotated[Path, typer.Argument(metavar="FILE", help="The ceremony's file.")]
KeyFile = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="This person's keys, from `key new`.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    steps = subject("Several people begin a fleet; every step may be done again.")
    example = (
        "ceremony begin ceremony.json --home fleet --threshold root=2"
        " --threshold targets=2 --threshold namespaces=2 --threshold stops=2"
    )
    command(steps, "begin", example=example, asks=False)(begin)
    example = "ceremony join ceremony.json --name ann --key ann.key"
    command(steps, "join", example=example, asks=False)(join)
    command(steps, "close", example="ceremony close ceremony.json", asks=False)(close)
    command(steps, "show", example="ceremony show ceremony.json", asks=False)(show)
    example = "ceremony sign ceremony.json --key ann.key"
    command(steps, "sign", example=example, asks=False)(sign)
    example = "ceremony finish ceremony.json --home fleet"
    command(steps, "finish", example=example, asks=False)(finish)
    example = "ceremony adopt root.json --key ann.key"
    command(steps, "adopt", example=example, asks=False)(adopt)
    app.add_typer(steps, name="ceremony")


def begin(
    run: Run,
    file: Ceremony,
    home: Home = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=N", help="N people sign it; 1 if not said; repeat."),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,NAME", help="One of these must sign releases; repeat."),
    ] = None,
) -> None:
    """Make the server's own keys, and a file that everybody joins."""
    from modelfleet_server.trust import gathering
    from modelfleet_server.trust.approver import ROLES, UNBOUND
    from modelfleet_server.trust.online import Online, OnlineKeys, read_online, write_online

    if file.exists():
        raise InvalidError(f"{file} is there already", "Go on with it, or name another.")
    asked = dict(read_threshold(one) for one in threshold or [])
    groups = [one.split(",") for one in group or []]
    waiting = waiting_key(home)
    there = waiting.exists()  # of a ceremony that was given up: nobody signed for them yet
    keys = read_online(waiting).keys if there else OnlineKeys.generate()
    held = gathering.begin(dict.fromkeys(ROLES, 1) | asked, keys, groups)
    if not there:
        write_online(waiting, Online(UNBOUND, keys))
    gathering.write(file, held)
    _tell(run, file, held, "Let everybody join: modelfleet ceremony join.")


def join(
    run: Run,
    file: Ceremony,
    name: Annotated[str, typer.Option(help="Of the person, in small letters.")],
    key: KeyFile,
) -> None:
    """Add one person's public keys."""
    from modelfleet_server.trust import gathering
    from modelfleet_server.trust.approver import read_public

    held = gathering.join(gathering.read(file), name, read_public(key).keys)
    gathering.write(file, held)
    _tell(run, file, held, f"{name} has joined.")


def close(run: Run, file: Ceremony) -> None:
    """Write down what everybody will sign; nobody joins from here on."""
    from modelfleet_server.kit.clock import now_ms
    from modelfleet_server.trust import gathering

    held = gathering.close(gathering.read(file), now_ms())
    gathering.write(file, held)
    _tell(run, file, held, "Let everybody sign: modelfleet ceremony sign.")


def show(run: Run, file: Ceremony) -> None:
    """Show who has joined, and which signatures are missing."""
    from modelfleet_server.trust import gathering

    _tell(run, file, gathering.read(file), "")


def sign(
    run: Run,
    file: Ceremony,
    key: KeyFile,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
) -> None:
    """Show what begins, and sign it. Compare the keys with the others first."""
    from modelfleet_server.trust import gathering
    from modelfleet_server.trust.approver import open_approver

    held = gathering.read(file)
    for line in gathering.describe(held):
        run.screen.note(f"  {line}")
    run.screen.confirm("Are these the people and their keys?", yes=yes)
    held = gathering.sign(held, open_approver(key, find_passphrase(passphrase_file)))
    gathering.write(file, held)
    _tell(run, file, held, "Signed.")


def finish(
    run: Run,
    file: Ceremony,
    home: Home = None,
    admin: Annotated[str, typer.Option(metavar="NAME", help="The first user.")] = "admin",
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Their password; made up if not given."),
    ] = None,
) -> None:
    """Begin the fleet: database, first user, first metadata. Needs all signatures."""
    from modelfleet_server.cli import founding
    from modelfleet_server.trust import gathering

    settings = load_settings(home, environ=os.environ)
    done = founding.found_together(
        settings,
        gathering.read(file),
        waiting_key(home),
        admin=admin,
        password=read_secret_file(password_file) if password_file else None,
    )

    def tell() -> None:
        run.screen.say(f"The fleet {done['fleet']} was begun in {done['home']}.")
        if done["password"]:
            run.screen.say(f"User {admin}, password {done['password']} (shown this once).")
        run.screen.say(f"Everybody: modelfleet ceremony adopt {done['root']} --key FILE")

    run.screen.show(done, tell)


def adopt(
    run: Run,
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The fleet's first root.")],
    key: KeyFile,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Bind a person's keys to the fleet that the ceremony began."""
    from modelfleet_server.trust import gathering
    from modelfleet_server.trust.approver import bind_approver, open_approver

    if not root.is_file():
        raise InvalidError(f"there is no file {root}", "`ceremony finish` tells its name.")
    passphrase = find_passphrase(passphrase_file)
    keys = gathering.adopt(open_approver(key, passphrase), root.read_bytes())
    bind_approver(key, keys, passphrase)
    done = {"key": str(key), "fleet": keys.fleet}
    run.screen.show(done, lambda: run.screen.say(f"{key} is of the fleet {keys.fleet}."))


def waiting_key(home: Path | None) -> Path:
    """Return where the server's keys wait for the end of a ceremony."""
    path = load_settings(home, environ=os.environ).online_key
    return path.with_name(f"{path.name}.ceremony")


def _tell(run: Run, file: Path, held: object, words: str) -> None:
    from modelfleet_server.trust import gathering

    if not isinstance(held, gathering.Gathering):
        raise TypeError("not a ceremony")
    missing = gathering.missing(held) if held.is_closed else {}
    done = {
        "file": str(file),
        "people": sorted(held.people),
        "thresholds": held.thresholds,
        "closed": held.is_closed,
        "missing": missing,
    }

    def tell() -> None:
        if words:
            run.screen.say(words)
        run.screen.say(f"People: {', '.join(sorted(held.people)) or 'none yet'}.")
        for role, count in missing.items():
            if count:
                run.screen.say(f"{role}: {count} more signatures are needed.")

    run.screen.show(done, tell)
