"""`compliance`: who runs what they must, and why not."""

from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.client import MAX_PAGE, Json
from modelfleet_server.cli.exits import Exit
from modelfleet_server.cli.run import Limit, Run, command
from modelfleet_server.kit.clock import now_ms

DEFAULT_LIMIT = 100
STATES = "compliant, waiting, updating, failed, drifted, revoked, stale, unknown"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    example = "compliance --group plant-b\ncompliance --state drifted --json"
    command(app, example=example)(compliance)


def compliance(
    run: Run,
    group: Annotated[
        str | None, typer.Option("--group", "-g", metavar="GROUP", help="Only its members.")
    ] = None,
    state: Annotated[str | None, typer.Option(help=f"List only: {STATES}.")] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """Say of every device whether it runs what it must, and if not, why.

    Exits 0 only where there are devices and all of them comply, whatever is listed.
    """
    found = _fetch(run, group, state, limit)
    run.screen.show(found, lambda: _tell(run, found))
    if found["next"] is not None:
        run.screen.note("There are more: say --limit 0 for all.")
    if not found["compliant"]:
        raise typer.Exit(Exit.NOT_YET)


def _fetch(run: Run, group: str | None, state: str | None, limit: int) -> Json:
    first = run.client.get(
        "/compliance", group=group, state=state, limit=min(limit or MAX_PAGE, MAX_PAGE)
    )
    items, cursor = first["items"], first["next"]
    while cursor is not None and (not limit or len(items) < limit):
        want = min(MAX_PAGE, limit - len(items)) if limit else MAX_PAGE
        page = run.client.get(
            "/compliance", group=group, state=state, limit=want, cursor=cursor
        )
        items, cursor = items + page["items"], page["next"]
    fine = first["counts"].get("compliant", 0)
    return {
        "compliant": first["total"] > 0 and fine == first["total"],
        "total": first["total"],
        "counts": first["counts"],
        "items": items,
        "next": cursor,
    }


def _tell(run: Run, found: Json) -> None:
    now = now_ms()
    rows = [
        [
            one["device"],
            one["state"],
            one["runs"],
            one["wants"],
            one["reason"],
            words.ago(one["reported_ms"], now),
        ]
        for one in found["items"]
    ]
    columns = ["device", "state", "runs", "must run", "reason", "reported"]
    run.screen.table(columns, rows)
    counts = ", ".join(
        f"{count} {state}" for state, count in found["counts"].items() if count
    )
    run.screen.say("", f"{found['total']} devices: {counts or 'none yet'}.")
