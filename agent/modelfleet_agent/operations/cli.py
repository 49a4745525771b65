"""`modelfleet-agent install | why | history | rollback | doctor`.

Exit codes as `modelfleet-agent status`: 0, 1 an error, 2 the command line, 4 something is
wrong (`doctor`), 5 not enrolled, 6 the agent does not run (`rollback`).
"""

import argparse
import json
import secrets
import threading
import time
from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.clock import monotonic_s, now_ms
from modelfleet_agent.enrol import load_enrolment
from modelfleet_agent.errors import UsageError
from modelfleet_agent.operations.parser import NAME
from modelfleet_agent.operations.unit import Unit
from modelfleet_agent.supervisor import history as histories
from modelfleet_agent.supervisor import status as files
from modelfleet_agent.supervisor import wishes
from modelfleet_agent.update.state import SlotState, StateFile

OK, ERROR, FAILED, NOT_RUNNING = 0, 1, 4, 6
ANSWER_S = 30.0
HOUR_MS = 3_600_000
# What a person does next, by the reason that status tells.
NEXT = {
    "as-wanted": "nothing is to be done",
    "new-release": "it is on its way; leave it powered and connected",
    "new-variant": "another variant suits this device now; leave it powered and connected",
    "no-assignment": "the fleet has not said yet what is wanted here; is it connected?",
    "waits-for-group": "the group's deployment is on its way; is it connected?",
    "waits-for-metadata": "trust metadata is on its way; is the server reachable?",
    "waits-until": "its turn in the rollout comes later",
    "paused": "an operator paused the rollout",
    "not-admitted": "the rollout has not reached this device",
    "expired": "the documents are too old; it goes on once it is connected",
    "not-allowed": "what is wanted may not run here; ask the operator of the fleet",
    "quarantined": "it failed here; it is tried again later, or with another release",
    "agent-too-old": "upgrade the agent",
    "bit-rot": "it repairs itself; watch the medium",
    "no-space": "free some space or lower the disk budget",
    "held": "an operator holds this slot as it is",
    "waits-for-window": "it begins when the window opens; see agent.toml",
    "waits-for-budget": "it goes on when there are bytes again; see agent.toml",
    "waits-for-link": "connect it to a network that agent.toml allows for files",
    "waits-for-turn": "devices begin one after the other; its turn comes",
    "full-forbidden": "connect it to an unmetered network, or change `fallback`",
    "removed": "an operator wants nothing here",
}


def install(options: argparse.Namespace) -> int:
    """Write the unit and the user's snippet, and say what comes next."""
    directory = options.dir.absolute()
    if not directory.is_relative_to("/var/lib") or directory == Path("/var/lib"):
        what = f"{directory} is not below /var/lib, which is what systemd hands out"
        raise UsageError("E_DIR", what, hint="give --dir /var/lib/modelfleet-agent")
    unit = Unit(
        directory=directory,
        user=options.user,
        arguments=tuple(options.run_arguments),
        accelerators=options.accelerators,
        memory_mb=options.memory_max_mb,
    )
    texts = {
        options.root / f"etc/systemd/system/{NAME}.service": unit.text(),
        options.root / f"etc/sysusers.d/{NAME}.conf": unit.sysusers(),
    }
    for path, text in texts.items():
        if options.print:
            print(f"# {path}\n{text}")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        fsio.write_atomic(path, text.encode(), mode=0o644)
        print(f"wrote {path}")
    if not options.print:
        print(f"Next: systemd-sysusers && chown -R {options.user}: {directory}")
        print(f"      systemctl daemon-reload && systemctl enable --now {NAME}")
    return OK


def why(options: argparse.Namespace) -> int:
    """Say what is wanted, what runs, and what stands between."""
    load_enrolment(options.dir)
    found = files.read_status(options.dir)
    slots = found.slots if found else {}
    names = [options.slot] if options.slot else sorted(slots)
    rows = []
    for name in names:
        if name not in slots:
            raise UsageError("E_SLOT", f"this device has no slot {name!r}")
        memory = _memory(options.dir, name)
        rows.append(_why_row(name, slots[name], memory))
        if not options.json:
            _print_why(name, slots[name], memory)
    if options.json:
        print(json.dumps(rows, indent=2))
    return OK


def _why_row(name: str, slot: files.SlotStatus, memory: SlotState) -> dict[str, object]:
    row: dict[str, object] = msgspec.to_builtins(slot)
    row["slot"], row["next"] = name, NEXT.get(slot.reason, "")
    row["failed"] = [msgspec.to_builtins(one) for one in memory.quarantine]
    return row


def _memory(directory: Path, slot: str) -> SlotState:
    if not (directory / "state" / slot).exists():
        return SlotState()
    return StateFile(directory / "state", slot).state


def _print_why(name: str, slot: files.SlotStatus, memory: SlotState) -> None:
    runs = f"{slot.model} {slot.version}" if slot.model else "nothing"
    print(f"{name} runs {runs}: {slot.reason}")
    if slot.detail:
        print(f"  {slot.detail}")
    if hint := NEXT.get(slot.reason):
        print(f"  -> {hint}")
    if slot.wanted and slot.wanted != slot.release:
        print(f"  wanted is release {slot.wanted}")
    now = now_ms()
    for one in memory.quarantine:
        hours = max(one.until - now, 0) / HOUR_MS
        again = f"tried again in {hours:.1f} h" if one.holds(now) else "may be tried again"
        print(f"  {one.digest[:12]} failed {one.failures} times: {one.code}: {one.why}")
        print(f"    {again}")


def history(options: argparse.Namespace) -> int:
    """Print what happened, oldest first."""
    load_enrolment(options.dir)
    for row in histories.read(options.dir):
        if options.slot not in {None, row.slot}:
            continue
        if options.json:
            print(msgspec.json.encode(row).decode())
        else:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row.at / 1000))
            print(f"{when}Z {histories.tell(row)}")
    return OK


def rollback(options: argparse.Namespace) -> int:
    """Ask the running agent, and wait for its answer."""
    load_enrolment(options.dir)
    if not files.is_running(options.dir):
        print("The agent does not run: start it, then ask again.")
        return NOT_RUNNING
    wish = wishes.Wish(id=secrets.token_hex(8), slot=options.slot, hours=options.hours)
    wishes.write(options.dir, wish)
    pause, until = threading.Event(), monotonic_s() + ANSWER_S
    while monotonic_s() < until:
        answer = wishes.answer_of(options.dir, wish)
        if answer is None:
            pause.wait(0.05)
            continue
        if answer.code:
            raise UsageError(answer.code, answer.what)
        said = json.dumps({"slot": options.slot, "what": answer.what})
        print(said if options.json else answer.what)
        return OK
    raise UsageError("E_NO_ANSWER", f"the agent did not answer within {ANSWER_S:g} s")


def doctor(options: argparse.Namespace) -> int:
    """Print every finding; 4 where something is wrong."""
    from modelfleet_agent.operations.doctor import examine  # noqa: PLC0415 - fast start

    findings = []
    for one in examine(options.dir):
        findings.append(one)
        if not options.json:
            print(f"{'ok ' if one.ok else 'BAD'} {one.name}: {one.what}")
            if one.hint:
                print(f"    -> {one.hint}")
    if options.json:
        print(json.dumps([msgspec.to_builtins(one) for one in findings], indent=2))
    return OK if all(one.ok for one in findings) else FAILED
