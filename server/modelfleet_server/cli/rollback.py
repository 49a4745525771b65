"""`rollback`: a whole group back on one release, now."""

import time

import typer

from modelfleet_server.cli.client import Json
from modelfleet_server.cli.durations import parse_duration
from modelfleet_server.cli.exits import NotYetError
from modelfleet_server.cli.reference import Release
from modelfleet_server.cli.rollouts import Group, SkipMissing, Slot, Timeout, Wait, target
from modelfleet_server.cli.run import Run, Yes, command
from modelfleet_server.cli.screen import plain

POLL_S = 0.1


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    command(app, example="rollback demo/digits@1.0.0 --group plant-b --wait")(rollback)


def rollback(
    run: Run,
    release: Release,
    group: Group,
    slot: Slot = None,
    skip_missing: SkipMissing = False,
    wait: Wait = False,
    timeout: Timeout = "2min",
    yes: Yes = False,
) -> None:
    """Put a slot of a group on one release at once; ends any rollout there.

    Devices that may not return to the release are listed; they keep what they run. With
    --wait it prints the time from the command to the last device's report.
    """
    body = target(release, group, slot, skip_missing=skip_missing)
    where = f"slot {body['slot']} of group {group}"
    run.screen.confirm(f"Put {where} back on {release}, at once?", yes=yes)
    done = run.client.post("/rollbacks", body)
    run.screen.note(f"{done['devices']} devices go back to {release}.")
    for device in done["stay"]:
        run.screen.note(f"{device} may not return to it and keeps what it runs.")
    if wait:
        done["took_ms"] = _wait(run, done, timeout)
    run.screen.show(done, lambda: _tell(run, done, where))


def _tell(run: Run, done: Json, where: str) -> None:
    one = done["rollout"]
    if "took_ms" in done:
        seconds = done["took_ms"] / 1000
        run.screen.say(
            f"{done['devices']} devices run {one['version']} again in {where}: "
            f"{seconds:.2f} s from the command to the last report."
        )
    else:
        short = one["id"][:8]
        run.screen.say(f"Sent for {where}. See: modelfleet rollout watch {short}")


def _wait(run: Run, done: Json, timeout: str) -> int:
    """Return milliseconds, by the server's clock, until the last device's report came.

    Raises:
        NotYetError: Some devices have not reported the release yet.
    """
    one = done["rollout"]
    stay = set(done["stay"])
    deadline = time.monotonic() + parse_duration(timeout) / 1000
    first_seen: dict[str, int] = {}
    with run.screen.progress() as bars:
        while True:
            members = [
                device
                for device in run.client.list("/devices", 0, group=one["group"]).items
                if device["state"] == "enrolled" and device["id"] not in stay
            ]
            for device in members:
                if _runs(device, one):
                    first_seen.setdefault(device["id"], device["reported_ms"])
            missing = [one["id"] for one in members if one["id"] not in first_seen]
            bars.set("back", len(first_seen), len(members), f"{len(missing)} to go")
            if not missing:
                last = max(first_seen.values(), default=0)
                return max(0, last - int(one["created_ms"]))
            if time.monotonic() > deadline:
                raise NotYetError(
                    f"{len(missing)} devices have not reported {one['version']} after "
                    f"{timeout}: {', '.join(plain(it) for it in missing[:10])}",
                    "See why: modelfleet why DEVICE.",
                    rollout=one["id"],
                    missing=missing,
                )
            time.sleep(POLL_S)


def _runs(device: Json, rollout: Json) -> bool:
    return any(
        slot["slot"] == rollout["slot"]
        and slot["release"] == rollout["release"]
        and slot["intact"]
        for slot in device["slots"]
    )
