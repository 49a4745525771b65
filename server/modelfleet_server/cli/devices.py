"""`device` and `why`: what is out there, and why it runs what it runs."""

from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.client import Json, name
from modelfleet_server.cli.run import Limit, Run, Yes, command, subject
from modelfleet_server.cli.screen import Screen
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.errors import InvalidError

DEFAULT_LIMIT = 100
DeviceId = Annotated[str, typer.Argument(metavar="DEVICE", help="Its id.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="KEY=VALUE", help="A label; repeat it."),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    devices = subject("Devices of the fleet.")
    command(devices, "list", example="device list --selector site=plant-b")(list_devices)
    command(devices, "show", example="device show cam-7")(show)
    command(devices, "claim", example="device claim cam-7 --label site=plant-b")(claim)
    command(devices, "label", example="device label cam-7 site=plant-b line-")(label)
    command(devices, "retire", example="device retire cam-7 --yes")(retire)
    app.add_typer(devices, name="device")
    command(app, example="why cam-7")(why)


def list_devices(
    run: Run,
    selector: Annotated[
        str | None, typer.Option(metavar="LABELS", help="Only these: site=a,line in (1,2).")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Only its members.")] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List devices by id."""
    found = run.client.list("/devices", limit, selector=selector, group=group)
    now = now_ms()
    rows: list[list[object]] = [
        [
            one["id"],
            one["state"],
            one["profile"],
            "yes" if one["online"] else "no",
            words.ago(one["reported_ms"], now),
            " ".join(_runs(slot) for slot in one["slots"]),
            words.labels(one["labels"]),
        ]
        for one in found.items
    ]
    columns = ["device", "state", "profile", "online", "reported", "runs", "labels"]
    run.show_list(found, columns, rows)


def show(run: Run, device: DeviceId) -> None:
    """Show a device: what it runs, and its last hour."""
    one = run.client.get(f"/devices/{name(device)}")
    one["last_hour"] = run.client.get(f"/devices/{name(device)}/telemetry")["counts"]
    run.screen.show(one, lambda: _tell_device(run.screen, one))


def claim(run: Run, device: DeviceId, labels: Labels = None) -> None:
    """Make a one-time token with which a device enrols."""
    given = dict(_pair(text) for text in labels or [])
    made = run.client.post("/devices/claims", {"device": device, "labels": given})
    made["server"] = run.account.server

    def tell() -> None:
        run.screen.say(
            f"{made['token']}",
            "",
            f"Good once, until {words.moment(made['expires_ms'])} UTC. On {device}:",
            f"  modelfleet-agent enrol --server {made['server']} --token TOKEN",
        )

    run.screen.show(made, tell)


def label(
    run: Run,
    device: DeviceId,
    changes: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE|KEY-", help="Set it, or take it off.")
    ],
) -> None:
    """Change labels of a device; its groups follow."""
    held = run.client.get(f"/devices/{name(device)}")["labels"]
    for text in changes:
        if text.endswith("-") and "=" not in text:
            held.pop(text[:-1], None)
        else:
            held |= dict([_pair(text)])
    one = run.client.put(f"/devices/{name(device)}/labels", {"labels": held})
    groups = ", ".join(one["groups"]) or "no group"
    run.screen.show(
        one,
        lambda: run.screen.say(f"{device}: {words.labels(one['labels'])}; in {groups}."),
    )


def retire(run: Run, device: DeviceId, yes: Yes = False) -> None:
    """Take a device out of the fleet for good; what it reported stays."""
    run.screen.confirm(f"Retire {device}? Its credentials end now.", yes=yes)
    one = run.client.post(f"/devices/{name(device)}/retire")
    run.screen.show(one, lambda: run.screen.say(f"{device} is retired."))


def why(run: Run, device: DeviceId) -> None:
    """Say why a device runs what it runs, step by step."""
    found = run.client.get(f"/devices/{name(device)}/why")

    def tell() -> None:
        if not found["slots"]:
            run.screen.say(f"No group governs a slot of {device}.")
        for one in found["slots"]:
            _tell_answer(run.screen, one)

    run.screen.show(found, tell)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidError(f"the label {text!r} has no value", "Write it as KEY=VALUE.")
    return key, value


def _runs(slot: Json) -> str:
    if slot["version"] is None:
        return f"{slot['slot']}:-"
    mark = "" if slot["intact"] else "(altered)"
    return f"{slot['slot']}:{slot['version']}/{slot['variant']}{mark}"


def _tell_device(screen: Screen, one: Json) -> None:
    now = now_ms()
    screen.facts(
        [
            ("device", one["id"]),
            ("state", f"{one['state']}, incarnation {one['incarnation']}"),
            ("profile", one["profile"]),
            ("labels", words.labels(one["labels"])),
            ("groups", ", ".join(one["groups"])),
            ("online", "yes" if one["online"] else "no"),
            ("reported", words.ago(one["reported_ms"], now)),
            *(("error", error) for error in one["errors"]),
        ]
    )
    rows = [
        [
            it["slot"],
            it["version"],
            it["variant"],
            it["phase"],
            it["reason"],
            "yes" if it["intact"] else "NO",
            it["digest"],
        ]
        for it in one["slots"]
    ]
    screen.say("")
    columns = ["slot", "version", "variant", "phase", "reason", "intact", "digest"]
    screen.table(columns, rows)
    screen.say("", "the last hour:")
    counts = [
        [
            it["slot"],
            it["release"][:12],
            it["requests"],
            it["errors"],
            words.milliseconds(it["p50_us"]),
            words.milliseconds(it["p99_us"]),
            f"{it['hits']}/{it['labelled']}",
        ]
        for it in one["last_hour"]
    ]
    columns = ["slot", "release", "requests>", "errors>", "p50>", "p99>", "right>"]
    screen.table(columns, counts)


def _tell_answer(screen: Screen, one: Json) -> None:
    wanted = f"{one['model']}@{one['version']} as {one['variant']}"
    said = f"{one['device_action']}, {one['device_reason']} {one['device_detail'] or ''}"
    screen.facts(
        [
            ("slot", one["slot"]),
            ("runs", one["runs"]),
            ("should", one["action"] if one["model"] is None else f"run {wanted}"),
            ("because", f"{one['words']} ({one['reason']})"),
            ("device says", said.strip() if one["device_action"] else "nothing yet"),
            ("agree", "yes" if one["agree"] else "no"),
            *(
                ("passed over", f"{it['release'][:12]}: {it['reason']} {it['detail']}")
                for it in one["passed"]
            ),
        ]
    )
    screen.say("")
