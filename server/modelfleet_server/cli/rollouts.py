"""`deploy` and `rollout`: bring a release to a group, at once or in waves."""

import time
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.client import Json, name
from modelfleet_server.cli.durations import parse_duration
from modelfleet_server.cli.exits import NotYetError
from modelfleet_server.cli.reference import Release, parse_reference
from modelfleet_server.cli.run import Limit, Run, Yes, command, subject
from modelfleet_server.cli.screen import Screen

DEFAULT_LIMIT = 100
POLL_S = 0.3
WAVES = ("canary", "50%", "all")
GOING_ON = {"draft", "preparing", "running"}
PLAN = "rollout plan demo/digits@1.1.0 --group plant-b"
START = (
    "rollout start demo/digits@1.1.0 --group plant-b --wave canary --wave 50% --wave all\n"
    "rollout start demo/digits@1.1.0 --group plant-b --min-labelled 500 --deadline 2h"
)

Group = Annotated[str, typer.Option("--group", "-g", metavar="GROUP", help="Whom.")]
Slot = Annotated[
    str | None, typer.Option(metavar="SLOT", help="Which slot [the model's name].")
]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out devices that have no variant.")
]
RolloutId = Annotated[
    str, typer.Argument(metavar="ROLLOUT", help="Its id, or a beginning of it.")
]
WaveTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--wave",
        metavar="WAVE",
        help="canary, 3, 25%, device:ID,ID or all; repeat [canary 50% all].",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Watch until it ends or stops.")]
Timeout = Annotated[
    str, typer.Option(metavar="TIME", help="How long to watch or wait: 90s, 10min, 2h.")
]
MinLabelled = Annotated[
    int, typer.Option(metavar="N", help="Labelled answers needed per device.")
]
MaxDrop = Annotated[
    float, typer.Option(metavar="SHARE", help="Tolerated drop in accuracy: 0.05.")
]
MaxErrors = Annotated[
    float, typer.Option(metavar="SHARE", help="Tolerated share of failed requests.")
]
MaxFailed = Annotated[
    int, typer.Option(metavar="N", help="Devices that may fail to run it.")
]
Deadline = Annotated[
    str, typer.Option(metavar="TIME", help="How long evidence may take: 10min, 2h.")
]
Undo = Annotated[bool, typer.Option(help="Undo by itself after a breach, or halt only.")]
Gated = Annotated[
    bool, typer.Option("--gate/--no-gate", help="Judge a wave before the next one.")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    command(app, example="deploy demo/digits@1.0.0 --group plant-b")(deploy)
    them = subject("Releases on their way to a group, in waves.")
    command(them, "plan", example=PLAN)(plan)
    command(them, "start", example=START)(start)
    command(them, "list", example="rollout list --state running")(list_rollouts)
    command(them, "show", example="rollout show 3fa9")(show)
    command(them, "watch", example="rollout watch 3fa9")(watch)
    command(them, "pause", example="rollout pause 3fa9 --reason 'line is down'")(pause)
    command(them, "resume", example="rollout resume 3fa9")(resume)
    command(them, "undo", example="rollout undo 3fa9 --yes")(undo)
    app.add_typer(them, name="rollout")


def deploy(
    run: Run,
    release: Release,
    group: Group,
    slot: Slot = None,
    skip_missing: SkipMissing = False,
    wait: Wait = False,
    timeout: Timeout = "10min",
) -> None:
    """Bring a release to a whole group at once, without a gate."""
    body = target(release, group, slot, skip_missing=skip_missing)
    made = run.client.post("/deployments", body)
    _after_start(run, made, wait=wait, timeout=timeout)


def plan(
    run: Run,
    release: Release,
    group: Group,
    slot: Slot = None,
    wave: WaveTexts = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """Show who would get which variant, how many bytes, and who is left out; do nothing."""
    body = target(release, group, slot, skip_missing=True)
    found = run.client.post("/rollouts/plan", {**body, "waves": list(wave or WAVES)})
    run.screen.show(
        found, lambda: _tell_plan(run.screen, found, list(wave or WAVES), limit)
    )


def start(
    run: Run,
    release: Release,
    group: Group,
    slot: Slot = None,
    wave: WaveTexts = None,
    min_labelled: MinLabelled = 200,
    max_drop: MaxDrop = 0.05,
    max_errors: MaxErrors = 0.01,
    max_failed: MaxFailed = 0,
    deadline: Deadline = "10min",
    undo_itself: Undo = True,
    gate: Gated = True,
    skip_missing: SkipMissing = False,
    wait: Wait = False,
    timeout: Timeout = "1h",
) -> None:
    """Roll a release out in waves, each judged by a gate before the next."""
    body = target(release, group, slot, skip_missing=skip_missing)
    judged = {
        "min_labelled": min_labelled,
        "max_drop": round(max_drop * 1000),
        "max_errors": round(max_errors * 1000),
        "max_failed": max_failed,
        "deadline_ms": parse_duration(deadline),
        "undo": undo_itself,
    }
    body |= {
        "waves": list(wave or WAVES),
        "gate": judged if gate else None,
        "start": True,
    }
    _after_start(run, run.client.post("/rollouts", body), wait=wait, timeout=timeout)


def list_rollouts(
    run: Run,
    state: Annotated[
        str | None,
        typer.Option(help="draft, preparing, running, paused, halted, done or undone."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List rollouts, newest first."""
    found = run.client.list("/rollouts", limit, state=state)
    rows: list[list[object]] = [
        [
            one["id"][:8],
            f"{one['model']}@{one['version']}",
            f"{one['group']}/{one['slot']}",
            one["state"],
            f"{one['wave'] + 1} of {len(one['waves'])}",
            one["reason"],
            words.moment(one["created_ms"]),
        ]
        for one in found.items
    ]
    columns = ["id", "release", "group/slot", "state", "wave", "reason", "since"]
    run.show_list(found, columns, rows)


def show(run: Run, rollout: RolloutId) -> None:
    """Show a rollout and what its gates said."""
    one = run.client.get(f"/rollouts/{name(rollout)}")
    run.screen.show(one, lambda: tell_rollout(run.screen, one))


def watch(run: Run, rollout: RolloutId, timeout: Timeout = "1h") -> None:
    """Watch a rollout until it ends or stops; exit 0 if it is done, 3 if not."""
    one = follow(run, run.client.get(f"/rollouts/{name(rollout)}"), timeout)
    _end(run, one)


def pause(
    run: Run,
    rollout: RolloutId,
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
) -> None:
    """Stop widening; devices that have the release keep it."""
    _move(run, rollout, "pause", reason)


def resume(run: Run, rollout: RolloutId) -> None:
    """Go on with a paused rollout."""
    _move(run, rollout, "resume", "")


def undo(
    run: Run,
    rollout: RolloutId,
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
    yes: Yes = False,
) -> None:
    """Take a rollout back: devices return to what they would have without it."""
    one = run.client.get(f"/rollouts/{name(rollout)}")
    question = f"Take {one['model']}@{one['version']} back from {one['group']}?"
    run.screen.confirm(question, yes=yes)
    _move(run, one["id"], "undo", reason)


def target(release: str, group: str, slot: str | None, *, skip_missing: bool) -> Json:
    """Return what the API calls a target: which release goes where."""
    wanted = parse_reference(release)
    return {
        "model": wanted.model,
        "version": wanted.version,
        "group": group,
        "slot": slot or wanted.slot,
        "skip_missing": skip_missing,
    }


def follow(run: Run, one: Json, timeout: str) -> Json:
    """Return a rollout once it neither runs nor waits for the engine.

    Raises:
        NotYetError: It still ran after `timeout`.
    """
    deadline = time.monotonic() + parse_duration(timeout) / 1000
    waves = len(one["waves"])
    with run.screen.progress() as bars:
        told: Json = {}
        while True:
            told = _tell_change(run.screen, told, one)
            bars.set("waves", one["wave"] + (one["state"] == "done"), waves, one["state"])
            # a gate that undoes by itself halts first, for a moment
            undoes = one["gate"] is not None and one["gate"]["undo"]
            if one["state"] not in GOING_ON and not (one["state"] == "halted" and undoes):
                return one
            if time.monotonic() > deadline:
                raise NotYetError(
                    f"rollout {one['id'][:8]} is {one['state']} after {timeout}",
                    f"Go on with: modelfleet rollout watch {one['id'][:8]}.",
                    rollout=one["id"],
                )
            time.sleep(POLL_S)
            one = run.client.get(f"/rollouts/{one['id']}")


def tell_rollout(screen: Screen, one: Json) -> None:
    """Print a rollout."""
    screen.facts(
        [
            ("rollout", one["id"]),
            ("release", f"{one['model']}@{one['version']}"),
            ("goes to", f"slot {one['slot']} of group {one['group']}"),
            ("state", one["state"]),
            ("reason", one["reason"]),
            ("by", f"{one['created_by']} {words.moment(one['created_ms'])}"),
        ]
    )
    rows = [
        [it["number"] + 1, it["text"], it["admitted"], it["outcome"], it["reason"]]
        for it in one["progress"]
    ]
    screen.table(["wave>", "is", "devices>", "outcome", "because"], rows)


def _after_start(run: Run, made: Json, *, wait: bool, timeout: str) -> None:
    if wait:
        _end(run, follow(run, made, timeout))
        return
    where = f"{made['model']}@{made['version']} to {made['group']}/{made['slot']}"
    short = made["id"][:8]
    run.screen.show(
        made,
        lambda: run.screen.say(
            f"Rollout {short}: {where} is {made['state']}.",
            f"See: modelfleet rollout watch {short}",
        ),
    )


def _end(run: Run, one: Json) -> None:
    run.screen.show(one, lambda: tell_rollout(run.screen, one))
    if one["state"] != "done":
        raise typer.Exit(3)


def _move(run: Run, rollout: str, event: str, reason: str) -> None:
    body = {"event": event, "reason": reason}
    one = run.client.post(f"/rollouts/{name(rollout)}/moves", body)
    run.screen.show(
        one, lambda: run.screen.say(f"Rollout {one['id'][:8]} is {one['state']}.")
    )


def _tell_change(screen: Screen, before: Json, now: Json) -> Json:
    told = before.get("progress", [])
    for new in now["progress"][len(told) :]:
        screen.note(f"wave {new['number'] + 1}, {new['text']}: {new['admitted']} devices")
    if before.get("state") != now["state"]:
        screen.note(f"{now['state']} {now['reason']}".strip())
    return now


def _tell_plan(screen: Screen, found: Json, waves: Sequence[str], limit: int) -> None:
    shown = found["devices"][: limit or None]
    rows = [
        [
            it["device"],
            it["profile"],
            it["variant"],
            it["runs"],
            it["method"],
            words.size(it["length"]),
            words.size(it["full"]),
        ]
        for it in shown
    ]
    columns = ["device", "profile", "variant", "runs", "by", "bytes>", "full>"]
    screen.table(columns, rows)
    if len(shown) < len(found["devices"]):
        screen.say(f"… and {len(found['devices']) - len(shown)} more")
    for it in found["left_out"]:
        screen.say(f"left out: {it['device']}, {it['reason']}")
    counts: Callable[[int], str] = "{} devices".format
    steps = ", ".join(
        f"{wave}: {counts(count)}"
        for wave, count in zip(waves, found["waves"], strict=True)
    )
    screen.say(f"waves: {steps}", f"in all {words.size(found['length'])} to download")
    if found["preparing"]:
        screen.say("Deltas are being made; see it again for fewer bytes. A start waits.")
