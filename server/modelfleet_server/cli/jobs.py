"""`job`: what the server works at behind the scenes, and an end to it."""

import time
from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.client import Json, name
from modelfleet_server.cli.durations import parse_duration
from modelfleet_server.cli.exits import NotYetError
from modelfleet_server.cli.run import Limit, Run, Yes, command, subject
from modelfleet_server.cli.screen import Screen

DEFAULT_LIMIT = 100
POLL_S = 0.3
OPEN = {"queued", "running"}

JobId = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or a beginning of it.")]
StateOption = Annotated[
    str | None, typer.Option(help="queued, running, done, failed or cancelled.")
]
KindOption = Annotated[
    str | None, typer.Option(metavar="KIND", help="Such as build or delta.")
]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", metavar="MODEL", help="Of this model.")
]
Timeout = Annotated[str, typer.Option(metavar="TIME", help="How long: 90s, 10min, 2h.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    them = subject("What the server works at: builds, deltas; how far, where, and why not.")
    command(them, "list", example="job list --state running")(list_jobs)
    command(them, "show", example="job show 3fa9")(show)
    command(them, "watch", example="job watch 3fa9")(watch)
    command(them, "cancel", example="job cancel 3fa9 --yes")(cancel)
    app.add_typer(them, name="job")


def list_jobs(
    run: Run,
    state: StateOption = None,
    kind: KindOption = None,
    model: ModelOption = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List jobs, newest first."""
    found = run.client.list("/jobs", limit, state=state, kind=kind, lane=model)
    rows: list[list[object]] = [
        [
            one["id"][:8],
            one["kind"],
            f"{one['lane']} {one['title']}".strip(),
            one["state"],
            _how_far(one),
            one["reason"] or one["step"],
            words.moment(one["queued_ms"]),
        ]
        for one in found.items
    ]
    columns = ["id", "kind", "about", "state", "steps", "what", "since"]
    run.show_list(found, columns, rows)


def show(run: Run, job: JobId) -> None:
    """Show a job: how far it is, where it runs, and why it failed."""
    one = run.client.get(f"/jobs/{name(job)}")
    run.screen.show(one, lambda: tell(run.screen, one))


def watch(run: Run, job: JobId, timeout: Timeout = "1h") -> None:
    """Watch a job until it ends; exit 0 if it is done, 3 if not."""
    deadline = time.monotonic() + parse_duration(timeout) / 1000
    one = run.client.get(f"/jobs/{name(job)}")
    with run.screen.progress() as bars:
        while one["state"] in OPEN:
            step = one["step"] if one["state"] == "running" else one["state"]
            bars.set(f"{one['kind']} {one['lane']}", one["done"], one["of"] or 1, step)
            if time.monotonic() > deadline:
                raise NotYetError(
                    f"job {one['id'][:8]} is {one['state']} after {timeout}",
                    f"Go on with: modelfleet job watch {one['id'][:8]}.",
                    job=one["id"],
                )
            time.sleep(POLL_S)
            one = run.client.get(f"/jobs/{one['id']}")
    run.screen.show(one, lambda: tell(run.screen, one))
    if one["state"] != "done":
        raise typer.Exit(3)


def cancel(run: Run, job: JobId, yes: Yes = False) -> None:
    """End a job that waits or runs; what it was for fails with that reason."""
    one = run.client.get(f"/jobs/{name(job)}")
    question = f"Cancel the {one['kind']} of {one['lane']} ({one['state']})?"
    run.screen.confirm(question, yes=yes)
    after = run.client.post(f"/jobs/{one['id']}/cancel")
    run.screen.show(
        after, lambda: run.screen.say(f"Job {one['id'][:8]} is {after['state']}.")
    )


def tell(screen: Screen, one: Json) -> None:
    """Print a job."""
    screen.facts(
        [
            ("job", one["id"]),
            ("is", f"{one['kind']} {one['key']}"),
            ("about", f"{one['lane']} {one['title']}".strip()),
            ("state", one["state"]),
            ("step", f"{one['step']} {_how_far(one)}".strip()),
            ("runs on", one["host"]),
            ("begun", f"{one['starts']} times, {one['losses']} of them lost"),
            ("asked for", f"{words.moment(one['queued_ms'])} by {one['actor']}"),
            ("started", words.moment(one["started_ms"])),
            ("ended", words.moment(one["finished_ms"])),
            ("reason", one["reason"]),
            ("next", one["hint"]),
        ]
    )


def _how_far(one: Json) -> str:
    return f"{one['done']} of {one['of']}" if one["of"] else ""
