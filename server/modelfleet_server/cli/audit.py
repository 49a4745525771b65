"""`audit`: every change, and proof that the log is whole."""

import json
from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.run import Limit, Run, command, subject

DEFAULT_LIMIT = 50


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    audit = subject("Every change that was made, by whom, in a log that shows tampering.")
    command(audit, "list", example="audit list --subject demo/digits@1.0.0")(list_entries)
    command(audit, "verify", example="audit verify")(verify)
    app.add_typer(audit, name="audit")


def list_entries(
    run: Run,
    about: Annotated[
        str | None, typer.Option("--subject", metavar="NAME", help="Only about this.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List changes, newest first."""
    found = run.client.list("/audit", limit, subject=about)
    rows: list[list[object]] = [
        [
            one["seq"],
            words.moment(one["at_ms"]),
            one["actor"],
            one["action"],
            one["subject"],
            json.dumps(one["detail"], ensure_ascii=False),
        ]
        for one in found.items
    ]
    run.show_list(found, ["seq>", "when", "who", "did", "to", "detail"], rows)


def verify(run: Run) -> None:
    """Walk the whole log; exit 5 and name the first entry that was tampered with."""
    head = run.client.get("/audit/verify")
    run.screen.show(
        head,
        lambda: run.screen.say(f"Whole: {head['seq']} entries, head {head['digest']}."),
    )
