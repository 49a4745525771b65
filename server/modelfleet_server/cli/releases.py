"""`release`: versions of models, in every state."""

from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.client import Json, name
from modelfleet_server.cli.reference import Release, parse_reference
from modelfleet_server.cli.run import Limit, Run, command, subject
from modelfleet_server.cli.screen import Screen
from modelfleet_server.kit.errors import InvalidError

DEFAULT_LIMIT = 100
METRICS = ["variant", "profile", "size>", "accuracy>", "latency>", "vouched", "digest"]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    releases = subject("Versions of models: built, proposed, released, revoked.")
    command(releases, "list", example="release list --model demo/digits")(list_releases)
    command(releases, "show", example="release show demo/digits@1.0.0")(show)
    command(releases, "retry", example="release retry demo/digits@1.0.0")(retry)
    command(releases, "propose", example="release propose demo/digits@1.0.0")(propose)
    app.add_typer(releases, name="release")


def list_releases(
    run: Run,
    model: Annotated[
        str | None, typer.Option(metavar="NS/NAME", help="Only these.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(help="building, built, proposed, released, revoked or failed."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List versions, newest first."""
    found = run.client.list("/releases", limit, model=model, state=state)
    rows = [
        [
            f"{one['model']}@{one['version']}",
            one["state"],
            one["release"][:12],
            one["created_by"],
            words.moment(one["created_ms"]),
            one["reason"],
        ]
        for one in found.items
    ]
    run.show_list(found, ["release", "state", "id", "by", "when", "reason"], rows)


def show(run: Run, release: Release) -> None:
    """Show a version: variants as measured, lineage, who signed."""
    one = run.client.get(parse_reference(release).path)
    run.screen.show(one, lambda: tell_release(run.screen, one))


def retry(run: Run, release: Release) -> None:
    """Build the variants again that failed."""
    one = run.client.get(parse_reference(release).path)
    builds = run.client.list("/builds", 0, version=one["id"])
    failed = [it for it in builds.items if it["state"] == "failed"]
    if not failed:
        raise InvalidError(f"no build of {release} has failed", "See: release show.")
    again = [run.client.post(f"/builds/{name(it['id'])}/retry") for it in failed]
    profiles = ", ".join(it["profile"] for it in again)
    run.screen.show(
        {"items": again}, lambda: run.screen.say(f"Builds again for {profiles}.")
    )


def propose(
    run: Run,
    release: Release,
    vouch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VARIANT=WORD",
            help="The release says rebuilt, audited or waived of it (*: others); repeat.",
        ),
    ] = None,
) -> None:
    """Propose a built version, for example after its proposal was withdrawn."""
    pairs = [one.partition("=") for one in vouch or []]
    if strange := [name_ for name_, _, word in pairs if not word]:
        raise InvalidError(f"{strange[0]!r} has no word", "Write VARIANT=waived.")
    body: Json = {"vouched": {name_: word for name_, _, word in pairs}}
    one = run.client.post(f"{parse_reference(release).path}/propose", body)
    run.screen.show(one, lambda: run.screen.say(f"Proposed: {one['proposal']}."))


def tell_release(screen: Screen, one: Json) -> None:
    """Print a version."""
    screen.facts(
        [
            ("release", f"{one['model']}@{one['version']}"),
            ("state", one["state"]),
            ("reason", one["reason"]),
            ("id", one["release"]),
            ("proposal", one["proposal"]),
            ("master", f"{one['master']} ({words.size(one['master_length'])})"),
            ("lineage", one["lineage_digest"]),
            *(("number", f"{it['level']}: {it['why']}") for it in one["fit"]["changes"]),
            ("slots", ", ".join(one["slots"])),
            ("returns to", ", ".join(one["rollback_to"]) or "none"),
            ("made by", f"{one['created_by']} {words.moment(one['created_ms'])}"),
            *(
                ("signed by", f"{it['actor']} {it['role']} {words.moment(it['signed_ms'])}")
                for it in one["approvals"]
            ),
        ]
    )
    tell_variants(screen, one["variants"])


def tell_variants(screen: Screen, variants: list[Json]) -> None:
    """Print variants with what was measured of them."""
    rows = [
        [
            one["name"],
            one["profile"],
            words.size(sum(file["length"] for file in one["files"])),
            one["metrics"].get("accuracy"),
            _latency(one["metrics"].get("latency-ms")),
            one["vouched"],
            one["digest"][:12],
        ]
        for one in variants
    ]
    screen.table(METRICS, rows)
    for one in variants:
        if waiver := one.get("waiver"):
            screen.say(
                f"{one['name']} is outside of its budget; {waiver['by']} let it pass: "
                f"{waiver['reason']}"
            )


def _latency(value: str | None) -> str:
    return "-" if value is None else f"{value} ms"
