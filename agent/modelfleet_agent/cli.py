"""`modelfleet-agent enrol | run | status`; more commands are in `operations.cli`.

Exit codes of `status`:

    0  every slot serves what is wanted, as it was signed
    1  an error that the message explains
    2  the command line is wrong
    3  an update goes on, or a slot waits
    4  a slot failed: the reason says why and what it runs meanwhile
    5  not enrolled
    6  the agent does not run

`enrol` and `run` exit 0, 1, 2 or 5; `run` ends with 0 on SIGTERM and SIGINT.
"""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from modelfleet_agent.errors import AgentError, UsageError
from modelfleet_agent.operations.parser import add_commands

OK, ERROR, WAITS, FAILED, NOT_ENROLLED, NOT_RUNNING = 0, 1, 3, 4, 5, 6
DECLARED = "declared.json"
MAX_DECLARED = 1 << 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(levelname)s %(name)s %(message)s",
    )
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except AgentError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        print(f"modelfleet-agent: {error.what} [{error.code}]{hint}", file=sys.stderr)
        return NOT_ENROLLED if error.code == "E_NOT_ENROLLED" else ERROR


def make_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="modelfleet-agent", description="Runs the models that its fleet wants here."
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say more")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_enrol(commands)
    _add_run(commands)
    _add_status(commands)
    add_commands(commands, _add_dir)
    return parser


def _add_enrol(commands: Any) -> None:  # noqa: ANN401 - argparse's type is private
    one = commands.add_parser("enrol", help="become a device of a fleet")
    _add_dir(one)
    one.add_argument("--server", required=True, metavar="URL", help="of the fleet's server")
    one.add_argument(
        "--token", required=True, help="one-time claim token; `-` reads a line"
    )
    one.add_argument(
        "--declare", type=Path, metavar="FACTS.json", help="facts in place of probed ones"
    )
    one.add_argument("--force", action="store_true", help="leave the fleet that it is in")
    one.set_defaults(command=enrol)


def _add_run(commands: Any) -> None:  # noqa: ANN401
    one = commands.add_parser("run", help="run the agent until SIGTERM")
    _add_dir(one)
    one.add_argument(
        "--http-port", type=int, default=0, metavar="N", help="loopback port; 0: a free one"
    )
    one.add_argument("--no-http", action="store_true", help="open no port")
    one.add_argument("--socket", type=Path, metavar="PATH", help="Unix socket")
    one.add_argument("--workers", type=int, default=2, help="threads that answer requests")
    one.add_argument("--threads", type=int, default=1, help="threads inside one session")
    one.add_argument("--memory-mb", type=int, metavar="MIB", help="of the runtime child")
    one.add_argument(
        "--local-control", action="store_true", help="local clients may unload slots"
    )
    one.add_argument("--disk-budget-mb", type=int, default=4096, metavar="MIB")
    one.add_argument("--disk-reserve-mb", type=int, default=64, metavar="MIB")
    intervals = {"report": 60.0, "verify": 60.0, "telemetry": 10.0, "reference": 30.0}
    for name, default in intervals.items():
        one.add_argument(
            f"--{name}-interval-s", type=float, default=default, metavar="SECONDS"
        )
    one.set_defaults(command=run)


def _add_status(commands: Any) -> None:  # noqa: ANN401
    one = commands.add_parser("status", help="say what runs here, and why")
    _add_dir(one)
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(command=status)


def _add_dir(parser: argparse.ArgumentParser) -> None:
    default = os.environ.get("MODELFLEET_AGENT_DIR", "/var/lib/modelfleet-agent")
    parser.add_argument(
        "--dir",
        type=Path,
        default=Path(default),
        help="the agent's directory (MODELFLEET_AGENT_DIR)",
    )


def enrol(options: argparse.Namespace) -> int:
    """Exchange a claim token for an identity."""
    from modelfleet_agent import enrol as enrolling  # noqa: PLC0415 - fast start
    from modelfleet_agent import facts, fsio  # noqa: PLC0415
    from modelfleet_agent.runtime import probe  # noqa: PLC0415
    from modelfleet_agent.settings.file import read_settings  # noqa: PLC0415

    declared = _read_declared(options.declare) if options.declare else {}
    token = sys.stdin.readline().strip() if options.token == "-" else options.token  # noqa: S105
    directory = fsio.private_dir(options.dir.resolve())
    found = facts.detect(directory, probe.run(), declared=declared)
    proxy = read_settings(directory).link.proxy_for(options.server)
    me = enrolling.enrol(
        options.server, token, directory, found, force=options.force, proxy=proxy
    )
    if declared:
        fsio.write_atomic(directory / DECLARED, json.dumps(declared).encode())
    else:
        fsio.remove(directory / DECLARED)
    print(f"This is {me.device} of the fleet {me.fleet[:12]} at {me.server}.")
    print(f"Start it with: modelfleet-agent run --dir {options.dir}")
    return OK


def run(options: argparse.Namespace) -> int:
    """Run the supervisor until a signal."""
    from modelfleet_agent.supervisor.wiring import Agent  # noqa: PLC0415 - fast start

    agent = Agent(_settings(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.supervisor.stop())
    agent.run()
    return OK


def status(options: argparse.Namespace) -> int:
    """Say what runs in each slot and why."""
    from modelfleet_agent.enrol import load_enrolment  # noqa: PLC0415 - fast start
    from modelfleet_agent.supervisor import status as files  # noqa: PLC0415

    me = load_enrolment(options.dir)
    running = files.is_running(options.dir)
    found = files.read_status(options.dir)
    code = _judge(found, running=running)
    if options.json:
        body = json.loads(files.encode_status(found)) if found else {"device": me.device}
        print(json.dumps(body | {"running": running, "exit": code}, indent=2))
        return code
    print(f"{me.device} of the fleet {me.fleet[:12]} at {me.server}")
    if not running or found is None:
        print("The agent does not run. Start it with: modelfleet-agent run")
        return code
    print("connected" if found.connected else "not connected; it runs what it has")
    if found.profile:
        print(f"profile {found.profile}")
    for line in _endpoint_lines(found.endpoint):
        print(line)
    for name, slot in sorted(found.slots.items()):
        _print_slot(name, slot)
    return code


def _judge(found: Any, *, running: bool) -> int:  # noqa: ANN401 - Status, imported late
    if not running or found is None:
        return NOT_RUNNING
    states = {slot.state for slot in found.slots.values()}
    if "failed" in states:
        return FAILED
    return OK if states <= {"ok"} and states else WAITS


def _endpoint_lines(endpoint: Any) -> list[str]:  # noqa: ANN401
    lines = []
    if endpoint.http_port is not None:
        lines.append(f"inference: http://127.0.0.1:{endpoint.http_port}/v2")
    if endpoint.socket is not None:
        lines.append(f"inference: unix:{endpoint.socket}")
    return lines


def _print_slot(name: str, slot: Any) -> None:  # noqa: ANN401
    what = f"{slot.model} {slot.version} ({slot.variant})" if slot.model else "nothing"
    print(f"\n{name}: {slot.state}: runs {what}")
    if slot.digest:
        print(f"  digest  {slot.digest}" + ("" if slot.intact else "  ALTERED"))
    if slot.wanted and slot.wanted != slot.release:
        print(f"  wanted  release {slot.wanted}")
    if slot.phase != "idle":
        print(f"  phase   {slot.phase}")
    print(f"  reason  {slot.reason}" + (f": {slot.detail}" if slot.detail else ""))
    if slot.failures:
        print(f"  failed here {slot.failures} times")


def _settings(options: argparse.Namespace) -> Any:  # noqa: ANN401
    from modelfleet_agent.settings import AgentSettings, RuntimeSettings  # noqa: PLC0415
    from modelfleet_agent.settings.file import read_settings  # noqa: PLC0415

    directory = options.dir.resolve()
    declared = directory / DECLARED
    told = read_settings(directory)
    return AgentSettings(
        dir=directory,
        runtime=RuntimeSettings(
            port=None if options.no_http else options.http_port,
            socket=options.socket.resolve() if options.socket else None,
            workers=options.workers,
            threads=options.threads,
            slot_threads=told.runtime.slot_threads,
            memory_mb=options.memory_mb,
            nice=told.runtime.nice,
            local_control=options.local_control,
        ),
        disk_budget_mb=options.disk_budget_mb,
        disk_reserve_mb=options.disk_reserve_mb,
        declared_facts=_read_declared(declared) if declared.exists() else {},
        report_interval_s=options.report_interval_s,
        verify_interval_s=options.verify_interval_s,
        telemetry_interval_s=options.telemetry_interval_s,
        reference_interval_s=options.reference_interval_s,
        link=told.link,
        switch=told.switch,
        outbox=told.outbox,
        prepares=told.runtime.prepare,
    )


def _read_declared(path: Path) -> dict[str, object]:
    hint = 'write a JSON object, for example {"arch": "aarch64", "soc": "Raspberry Pi 5"}'
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_DECLARED))
    except OSError as error:
        what = f"cannot read the facts in {path}: {error.strerror}"
        raise UsageError("E_FACTS", what) from error
    except ValueError as error:
        raise UsageError("E_FACTS", f"{path} is not JSON: {error}", hint=hint) from error
    if not isinstance(value, dict):
        raise UsageError("E_FACTS", f"{path} is not a JSON object", hint=hint)
    return value
