"""`delta plan` and `delta list`: the deltas that the server makes for its fleet."""

import time
from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.client import Json
from modelfleet_server.cli.durations import parse_duration
from modelfleet_server.cli.exits import NotYetError
from modelfleet_server.cli.reference import Release, parse_reference
from modelfleet_server.cli.run import Limit, Run, command

DEFAULT_LIMIT = 100
POLL_S = 0.3
WORKING = {"queued", "running"}
PLAN = "delta plan demo/digits@1.1.0\ndelta plan demo/digits@1.1.0 --retry --no-wait"
COLUMNS = ["release", "profile", "from", "to", "devices>", "state", "delta>", "whole>",
           "because"]  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, "plan", example=PLAN)(plan)
    command(app, "list", example="delta list --release demo/digits@1.1.0")(list_deltas)


def plan(
    run: Run,
    release: Release,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what failed before.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until they are made.")
    ] = True,
    timeout: Annotated[
        str, typer.Option(metavar="TIME", help="How long to wait: 90s, 10min, 2h.")
    ] = "10min",
) -> None:
    """Make the deltas to a release that save most, for what devices run now."""
    wanted = parse_reference(release)
    wish = {"model": wanted.model, "version": wanted.version, "retry": retry}
    found = run.client.post("/deltas/plans", wish)
    if wait:
        path = wanted.path.removeprefix("/releases")
        found = _follow(run, f"/deltas/plans{path}", found, timeout)
    run.screen.show(found, lambda: _tell(run, release, found))
    if found["state"] == "failed":
        raise typer.Exit(3)


def list_deltas(
    run: Run,
    release: Annotated[
        str | None, typer.Option(metavar="MODEL@VERSION", help="Only those to it.")
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="planned, made, dropped, postponed or failed.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List deltas that were considered: what became of each, and why."""
    wanted = parse_reference(release) if release else None
    found = run.client.list(
        "/deltas",
        limit,
        model=wanted.model if wanted else None,
        version=wanted.version if wanted else None,
        state=state,
    )
    rows: list[list[object]] = [
        [
            f"{one['model']}@{one['version']}",
            one["profile"],
            one["old"][:8],
            one["new"][:8],
            one["devices"],
            one["state"],
            words.size(one["length"] or one["estimate"]),
            words.size(one["whole"]),
            one["reason"],
        ]
        for one in found.items
    ]
    run.show_list(found, COLUMNS, rows)


def _follow(run: Run, path: str, found: Json, timeout: str) -> Json:
    deadline = time.monotonic() + parse_duration(timeout) / 1000
    with run.screen.progress() as bars:
        while found["state"] in WORKING:
            bars.set("deltas", found["done"], found["of"] or 1, found["step"])
            if time.monotonic() > deadline:
                raise NotYetError(
                    f"the deltas are {found['state']} after {timeout}: {found['step']}",
                    "A worker must run: modelfleet serve. See: modelfleet delta list.",
                    release=found["release"],
                )
            time.sleep(POLL_S)
            found = run.client.get(path)
    return found


def _tell(run: Run, release: str, found: Json) -> None:
    counts = ", ".join(f"{n} {state}" for state, n in found["deltas"].items() if n)
    run.screen.say(f"{release}: {found['state']}. Deltas: {counts or 'none is needed'}.")
    if found["reason"]:
        run.screen.say(found["reason"], found["hint"])
    if found["saved"]:
        run.screen.say(f"All devices together fetch {words.size(found['saved'])} less.")
    run.screen.say(f"Each of them: modelfleet delta list --release {release}")
