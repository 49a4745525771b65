"""Steps 6 and 7: who complies, a file that was altered, and the way back."""

import hashlib
import time
from pathlib import Path

from modelfleet_server.demo.client import Json
from modelfleet_server.demo.fleet import Device
from modelfleet_server.demo.play import GROUP, MODEL, Play, since, slot_of
from modelfleet_server.demo.steps.releases import runs, wait_until_all_run
from modelfleet_server.demo.telling import seconds
from modelfleet_server.demo.waiting import keep_promise, wait_for

FOUND_S = 60.0
QUICK_S = 0.03


def comply(play: Play) -> None:
    """Show who complies; alter a file, and see it found, reported and repaired."""
    _tell_compliance(play, play.client.get("/compliance", group=GROUP))
    play.by_hand(f"modelfleet compliance --group {GROUP}")
    victim = play.fleet.devices[0]
    path = _active_file(play, victim)
    signed = path.name
    before = _reported_ms(play, victim)
    _spoil(path)
    began = time.monotonic()
    play.did(f"One bit of {victim.name}'s active file is flipped on its disk.")
    seen = wait_for(
        lambda: _overview_with(play, "drifted"),
        f"{victim.name} to be seen as drifted",
        within_s=FOUND_S,
        log=_log(victim),
        every_s=QUICK_S,
    )
    play.measured.found_s = round(time.monotonic() - began, 2)
    play.did(f"Found and reported after {seconds(play.measured.found_s)}.")
    _tell_compliance(play, seen)
    began = time.monotonic()
    wait_for(
        lambda: _repaired(play, victim, before),
        f"{victim.name} to be repaired",
        within_s=FOUND_S,
        log=_log(victim),
        every_s=QUICK_S,
    )
    play.measured.repaired_s = round(time.monotonic() - began, 2)
    keep_promise(_sha256(path) == signed, f"{path} is not what was signed")
    play.did(
        f"Repaired by itself after {seconds(play.measured.repaired_s)} more: the file is "
        "byte for byte the signed one again."
    )
    play.by_hand(f"modelfleet why {victim.name}")
    _tell_compliance(play, play.client.get("/compliance", group=GROUP))
    play.check_traffic()


def go_back(play: Play) -> None:
    """Take the fleet back to 1.0.0 by one command."""
    words = ("rollback", f"{MODEL}@1.0.0", "--group", GROUP, "--wait")
    began = time.monotonic()
    done = play.stage.command(*words, "--yes")
    whole = since(began)
    play.by_hand(f"modelfleet {' '.join(words)}")
    keep_promise(not done["stay"], f"devices may not return: {', '.join(done['stay'])}")
    wait_until_all_run(play, "1.0.0")
    play.measured.rollback_s = done["took_ms"] / 1000
    play.did(
        f"{done['devices']} devices run 1.0.0 again: "
        f"{seconds(play.measured.rollback_s)} from the command's arrival to the last "
        f"device's report; the command ran {whole}, its own start and end with it."
    )
    play.check_traffic()


def _tell_compliance(play: Play, seen: Json) -> None:
    counts = ", ".join(
        f"{count} {state}" for state, count in seen["counts"].items() if count
    )
    play.did(f"{seen['total']} devices: {counts}.")
    for one in seen["items"]:
        if one["state"] != "compliant":
            play.did(f"  {one['device']} is {one['state']}: {one['reason']} {one['next']}")


def _overview_with(play: Play, state: str) -> Json | None:
    seen = play.client.get("/compliance", group=GROUP)
    return seen if seen["counts"][state] else None


def _repaired(play: Play, device: Device, before_ms: int) -> bool:
    play.stage.check()
    seen = play.client.get(f"/devices/{device.name}")
    return seen["reported_ms"] > before_ms and runs(seen, "1.1.0")


def _reported_ms(play: Play, device: Device) -> int:
    return int(play.client.get(f"/devices/{device.name}")["reported_ms"])


def _active_file(play: Play, device: Device) -> Path:
    digest = slot_of(play.client.get(f"/devices/{device.name}"))["digest"]
    path = device.directory / "store" / str(digest)
    keep_promise(path.is_file(), f"{path} is not there")
    return path


def _spoil(path: Path) -> None:
    """Flip the last bit, in place."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _log(device: Device) -> Path | None:
    return device.agent.log if device.agent else None
