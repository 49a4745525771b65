"""`demo`: the whole job, shown on this machine."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelfleet_server.cli.run import Run, command
from modelfleet_server.cli.screen import Screen, plain

if TYPE_CHECKING:
    from modelfleet_server.demo.telling import Line


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, example="demo\ndemo --no-keep --json", asks=False)(demo)


def demo(
    run: Run,
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--no-keep", help="Stay up afterwards [if in a terminal]."),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Work there [a temporary one].")
    ] = None,
) -> None:
    """Show the whole job on this machine: six agents, three versions, a rollback.

    The last line is one JSON object with what was measured.
    """
    from modelfleet_server.demo import story

    screen = run.screen
    stay = keep if keep is not None else sys.stdout.isatty() and not screen.as_json
    options = story.DemoOptions(home=home, keep=stay)
    measured = story.run(options, lambda line: _tell(screen, line))
    print(json.dumps(measured.document), flush=True)


def _tell(screen: Screen, line: "Line") -> None:
    """Print a line of the demonstration; with `--json` nothing but the last one counts."""
    from modelfleet_server.demo.telling import Begun, Open, Said, Table, Typed

    if screen.as_json:
        return
    match line:
        case Begun(number, title):
            screen.say("", f"{number}. {title}")
        case Said(text):
            screen.say(f"   {text}")
        case Typed(text):
            print(_dim(f"     $ {plain(text)}"))
        case Table(title, columns, rows):
            screen.say("", title)
            screen.table(columns, rows)
        case Open(url, user, password, home):
            screen.say(
                "",
                f"The console is at {url}: user {user}, password {password}.",
                f"All of it is in {home}. Ctrl-C ends it.",
            )
    sys.stdout.flush()


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if sys.stdout.isatty() else text
