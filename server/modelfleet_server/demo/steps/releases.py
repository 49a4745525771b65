"""Step 3: the first release, built, signed, deployed, serving. And publishing as such."""

import time

from modelfleet_server.demo import material
from modelfleet_server.demo.client import Json
from modelfleet_server.demo.fleet import SLOT
from modelfleet_server.demo.play import GROUP, MODEL, Play, since, slot_of
from modelfleet_server.demo.telling import kilobytes
from modelfleet_server.demo.waiting import keep_promise, wait_for

INSTALL_S = 90.0


def publish(play: Play, version: str) -> Json:
    """Check, upload, build, evaluate, propose and sign a version; return the release."""
    began = time.monotonic()
    key = play.approver_key
    signing = ("--approver-key", str(key), "--passphrase-file", str(play.passphrase))
    _send(play, version, "--approve", "--yes", *signing)
    play.by_hand(f"modelfleet publish digits-{version}.onnx {_options(version)} --approve")
    return _tell_release(play, version, since(began))


def begin_publishing(play: Play, version: str) -> None:
    """Check and upload a version, and let the server build it."""
    _send(play, version, "--no-wait")
    play.did(f"{MODEL} {version} is uploaded and being built meanwhile.")
    play.by_hand(f"modelfleet publish digits-{version}.onnx {_options(version)} --no-wait")


def finish_publishing(play: Play, version: str) -> Json:
    """Sign a version once it is built; return the release."""
    began = time.monotonic()
    server = play.stage.logs / "server.log"
    built = wait_for(
        lambda: _proposed(play, version), f"{version} to be built", within_s=90, log=server
    )
    play.stage.command(
        *("approve", built["proposal"], "--yes", "--approver-key", str(play.approver_key)),
        *("--passphrase-file", str(play.passphrase)),
    )
    play.by_hand("modelfleet approve PROPOSAL --approver-key approver.key")
    return _tell_release(play, version, since(began))


def _send(play: Play, version: str, *options: str) -> None:
    profiles = [word for one in play.fleet.profiles for word in ("--profile", one)]
    with material.unpacked(version) as files:
        play.stage.command(
            *("publish", str(files.master), "--model", MODEL, "--version", version),
            *("--eval", str(files.evaluation), "--calibration", str(files.calibration)),
            # one person, one machine: to build again what was just built proves nothing
            *("--lineage", str(files.lineage), "--waive", *profiles, *options),
        )


def _options(version: str) -> str:
    files = "--eval digits.eval.npz --calibration digits.calibration.npz"
    return f"--model {MODEL} --version {version} {files} --waive"


def _proposed(play: Play, version: str) -> Json | None:
    play.stage.check()
    seen = play.client.get(f"/releases/{MODEL}/{version}")
    state = seen["state"]
    keep_promise(state != "failed", f"{version} was not built: {seen['reason']}")
    return seen if state == "proposed" else None


def _tell_release(play: Play, version: str, took: str) -> Json:
    release = play.client.get(f"/releases/{MODEL}/{version}")
    state = release["state"]
    keep_promise(state == "released", f"{MODEL} {version} is {state}", release["reason"])
    play.did(f"{MODEL} {version} was built, evaluated and signed, in {took}:")
    for variant in release["variants"]:
        size = sum(file["length"] for file in variant["files"])
        accuracy = float(variant["metrics"]["accuracy"])
        play.did(f"  {variant['name']}: {kilobytes(size)}, accuracy {accuracy:.3f}")
    return release


def begin(play: Play) -> None:
    """Publish 1.0.0, deploy it to all, and let traffic run once it serves."""
    publish(play, "1.0.0")
    began = time.monotonic()
    wish = {"group": GROUP, "slot": SLOT, "model": MODEL, "version": "1.0.0"}
    play.client.post("/deployments", wish)
    play.by_hand(f"modelfleet deploy {MODEL}@1.0.0 --group {GROUP}")
    wait_until_all_run(play, "1.0.0")
    play.did(
        f"All {len(play.fleet.devices)} devices fetched, verified and self-tested it on "
        f"signed inputs, and serve it, in {since(began)}."
    )
    play.open_traffic()
    log = play.stage.logs / "traffic.log"
    wait_for(lambda: _all_labelled(play), "labels for every device", within_s=60, log=log)
    play.did("Applications ask every device for answers; the true labels come back.")


def _all_labelled(play: Play) -> bool:
    play.stage.check()
    labelled = [one for one in play.traffic.devices.values() if one.labelled]
    return len(labelled) == len(play.fleet.devices)


def wait_until_all_run(play: Play, version: str, within_s: float = INSTALL_S) -> None:
    """Wait until every device has reported that it serves `version`, in rest."""
    server = play.stage.logs / "server.log"

    def look() -> bool:
        play.stage.check()
        return all(runs(one, version) for one in play.devices())

    wait_for(look, f"{version} on every device", within_s=within_s, log=server)


def runs(device: Json, version: str) -> bool:
    """Say whether a device reported that it serves a version, intact and in rest."""
    slot = slot_of(device)
    return (
        slot.get("version") == version
        and slot["phase"] == "idle"
        and slot["reason"] == "as-wanted"
        and bool(slot["intact"])
    )
