"""`group`: which devices belong together."""

from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.client import name
from modelfleet_server.cli.run import Limit, Run, Yes, command, subject

DEFAULT_LIMIT = 100
GroupName = Annotated[str, typer.Argument(metavar="GROUP", help="Its name.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    groups = subject("Groups of devices: by labels, or listed.")
    example = (
        "group create plant-b --selector site=plant-b\n"
        "group create two --device cam-7 --device cam-8"
    )
    command(groups, "create", example=example)(create)
    command(groups, "list", example="group list")(list_groups)
    command(groups, "delete", example="group delete plant-b --yes")(delete)
    app.add_typer(groups, name="group")


def create(
    run: Run,
    group: GroupName,
    selector: Annotated[
        str | None, typer.Option(metavar="LABELS", help="site=a,line in (1,2),!spare")
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="A member; repeat it.")] = None,
    priority: Annotated[
        int, typer.Option(metavar="N", help="Where groups overlap, the higher governs.")
    ] = 0,
) -> None:
    """Make a group."""
    body = {
        "name": group,
        "selector": selector,
        "devices": device or [],
        "priority": priority,
    }
    made = run.client.post("/groups", body)
    run.screen.show(
        made, lambda: run.screen.say(f"Group {group} has {made['members']} devices.")
    )


def list_groups(run: Run, limit: Limit = DEFAULT_LIMIT) -> None:
    """List groups by name."""
    found = run.client.list("/groups", limit)
    rows: list[list[object]] = [
        [
            one["name"],
            one["members"],
            one["selector"],
            one["priority"],
            ", ".join(one["slots"]),
            words.moment(one["created_ms"]),
        ]
        for one in found.items
    ]
    columns = ["group", "devices>", "selector", "priority>", "governs", "since"]
    run.show_list(found, columns, rows)


def delete(run: Run, group: GroupName, yes: Yes = False) -> None:
    """Delete a group; its devices keep what they run."""
    run.screen.confirm(f"Delete the group {group}?", yes=yes)
    run.client.delete(f"/groups/{name(group)}", yes="true")
    run.screen.show(
        {"deleted": group}, lambda: run.screen.say(f"Group {group} is deleted.")
    )
