"""Steps 4 and 5: an update that goes through in waves, and one that is stopped."""

import time

import zstandard

from modelfleet_server.demo.client import Json
from modelfleet_server.demo.fleet import SLOT
from modelfleet_server.demo.measured import DeviceFigures, GateFigures
from modelfleet_server.demo.play import GROUP, MODEL, Play, since, slot_of
from modelfleet_server.demo.steps.releases import (
    begin_publishing,
    finish_publishing,
    publish,
    runs,
    wait_until_all_run,
)
from modelfleet_server.demo.telling import kilobytes
from modelfleet_server.demo.waiting import keep_promise, wait_for

WAVES = ("canary", "50%", "all")
ROLLOUT_S = 120.0
DELTAS_S = 60.0
ENDED = ("done", "undone", "paused")
STRONG = 19
"""Level of zstd that the whole files are compressed with, to be fair to them."""


def update(play: Play) -> None:
    """Publish 1.1.0 and roll it out by deltas while requests run."""
    release = publish(play, "1.1.0")
    began = time.monotonic()
    started = _start(play, "1.1.0")
    begin_publishing(play, "1.2.0")
    ended = _follow(play, started)
    keep_promise(ended["state"] == "done", f"the rollout of 1.1.0 is {ended['state']}")
    wait_until_all_run(play, "1.1.0")
    play.did(f"All devices run 1.1.0, {since(began)} after the rollout began.")
    _note_gate(play, ended)
    _weigh(play, release)
    traffic = play.check_traffic()
    play.did(f"{traffic.requests} requests so far, {traffic.failed} failed.")


def stop_bad(play: Play) -> None:
    """Publish 1.2.0, better on clean images, and see it stopped by live traffic."""
    finish_publishing(play, "1.2.0")
    play.did("On clean images it is the best of the three. Live traffic is not clean.")
    began = time.monotonic()
    ended = _follow(play, _start(play, "1.2.0"))
    keep_promise(
        ended["state"] == "undone",
        f"the gate should have undone 1.2.0, but its rollout is {ended['state']}",
        ended["reason"],
    )
    gate = _note_gate(play, ended)
    keep_promise(
        len(ended["progress"]) == 1 and 0 < gate.reached < len(play.fleet.devices),
        f"1.2.0 went beyond the canaries: {gate.reached} devices answered with it",
    )
    wait_until_all_run(play, "1.1.0")
    play.did(
        f"The rollout halted and undid itself; all devices run 1.1.0, {since(began)} "
        f"after it began. {gate.reached} canaries ever answered with 1.2.0."
    )
    play.check_traffic()


def _start(play: Play, version: str) -> Json:
    """Say what a rollout would do, and start it."""
    wish = {
        "group": GROUP,
        "slot": SLOT,
        "model": MODEL,
        "version": version,
        "waves": list(WAVES),
    }
    _await_deltas(play, version)
    plan = play.client.post("/rollouts/plan", wish)
    fetched = {one["method"] for one in plan["devices"]}
    play.did(
        f"Plan: waves of {', '.join(map(str, plan['waves']))} devices, by "
        f"{' and '.join(sorted(fetched))}, {kilobytes(plan['length'])} in all."
    )
    play.by_hand(f"modelfleet rollout plan {MODEL}@{version} --group {GROUP}")
    made = play.client.post("/rollouts", wish | {"start": True})
    waves = " ".join(f"--wave {one}" for one in WAVES)
    play.by_hand(f"modelfleet rollout start {MODEL}@{version} --group {GROUP} {waves}")
    return made


def _await_deltas(play: Play, version: str) -> None:
    """Wait for the deltas that signing the release asked for, and tell of them."""

    def look() -> Json | None:
        play.stage.check()
        seen = play.client.get(f"/deltas/plans/{MODEL}/{version}")
        return seen if seen["state"] not in {"queued", "running"} else None

    log = play.stage.logs / "server.log"
    seen = wait_for(look, f"the deltas to {version}", within_s=DELTAS_S, log=log)
    keep_promise(seen["state"] == "done", f"no deltas to {version}", seen["reason"])
    play.did(
        f"{seen['deltas']['made']} deltas were made for what the devices run; "
        f"{kilobytes(seen['saved'])} less to fetch than packed files."
    )
    play.by_hand(f"modelfleet delta list --release {MODEL}@{version}")


def _follow(play: Play, started: Json) -> Json:
    """Say what the waves of a rollout do, and return it once it has ended."""
    told = 0

    def look() -> Json | None:
        nonlocal told
        play.stage.check()
        now = play.client.get(f"/rollouts/{started['id']}")
        judged = [one for one in now["progress"] if one["outcome"] != "pending"]
        for wave in judged[told:]:
            _tell_wave(play, wave)
        told = len(judged)
        return now if now["state"] in ENDED else None

    what = f"the end of the rollout of {started['version']}"
    return wait_for(look, what, within_s=ROLLOUT_S, log=play.stage.logs / "server.log")


def _tell_wave(play: Play, wave: Json) -> None:
    play.did(
        f"Wave {wave['number'] + 1}, {wave['text']}: {wave['admitted']} devices in all. "
        f"Gate: {wave['outcome']}, {wave['reason']}."
    )


def _note_gate(play: Play, ended: Json) -> GateFigures:
    first = ended["progress"][0]
    evidence = first["evidence"]
    tallies = play.traffic.devices.values()
    figures = GateFigures(
        version=ended["version"],
        outcome=first["outcome"],
        drop=evidence["drop"],
        low=evidence["low"],
        high=evidence["high"],
        samples=int(evidence["samples"]),
        reached=len([one for one in tallies if ended["version"] in one.versions]),
    )
    play.measured.gates.append(figures)
    return figures


def _weigh(play: Play, release: Json) -> None:
    """Compare what every device fetched with its variant as one compressed file."""
    old = play.client.get(f"/releases/{MODEL}/1.0.0")
    before = {variant["name"] for variant in old["variants"]}
    packed = {
        variant["name"]: len(_packed(play, variant)) for variant in release["variants"]
    }
    full = {
        variant["name"]: sum(file["length"] for file in variant["files"])
        for variant in release["variants"]
    }
    for device in play.devices():
        slot = slot_of(device)
        declared = bool(device["facts"]["declared"])
        figures = DeviceFigures(device["id"], device["profile"], declared=declared)
        figures.variant = slot["variant"]
        figures.full_bytes, figures.zstd_bytes = (
            full[slot["variant"]],
            packed[slot["variant"]],
        )
        figures.update_bytes, figures.method = slot["fetched_bytes"], slot["method"]
        keep_promise(runs(device, "1.1.0"), f"{device['id']} does not run 1.1.0")
        # from one precision to another there is none: it was measured again, and differs
        keep_promise(
            figures.method == "delta" or figures.variant not in before,
            f"{device['id']} fetched 1.1.0 as {figures.method}, not as a delta",
        )
        play.measured.devices.append(figures)
    measured = play.measured
    ratio = measured.zstd_bytes / measured.update_bytes
    play.did(
        f"Deltas: {kilobytes(measured.update_bytes)} for all devices; as files compressed "
        f"by zstd it would be {kilobytes(measured.zstd_bytes)}, {ratio:.1f} times as much."
    )


def _packed(play: Play, variant: Json) -> bytes:
    data = b"".join(play.client.blob(file["digest"]) for file in variant["files"])
    return zstandard.ZstdCompressor(level=STRONG).compress(data)
