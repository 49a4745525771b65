"""The command line of what a person at the device does; `cli` does it.

Importing this costs nothing: a command loads what it needs only.
"""

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "modelfleet-agent"


def add_commands(commands: Any, add_dir: Callable[[Any], None]) -> None:  # noqa: ANN401
    """Add the commands to the parser."""
    one = commands.add_parser("install", help="write a systemd unit")
    add_dir(one)
    one.add_argument("--root", type=Path, default=Path("/"), help="of the file system")
    one.add_argument("--user", default=NAME, help="that the agent runs as")
    one.add_argument("--accelerators", action="store_true", help="it may open devices")
    one.add_argument("--memory-max-mb", type=int, metavar="MIB", help="of the whole agent")
    one.add_argument("--print", action="store_true", help="write nothing")
    one.add_argument("run_arguments", nargs="*", metavar="-- RUN-ARGUMENTS")
    one.set_defaults(command=_command("install"))
    one = commands.add_parser("why", help="say why a slot runs what it runs")
    add_dir(one)
    one.add_argument("slot", nargs="?", help="all slots where it is left out")
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(command=_command("why"))
    one = commands.add_parser("history", help="say what happened here")
    add_dir(one)
    one.add_argument("slot", nargs="?", help="all slots where it is left out")
    one.add_argument("--json", action="store_true", help="one object per line")
    one.set_defaults(command=_command("history"))
    one = commands.add_parser("rollback", help="go back to what a slot ran before")
    add_dir(one)
    one.add_argument("slot")
    one.add_argument(
        "--hours", type=float, default=24.0, help="until what runs now may be tried again"
    )
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(command=_command("rollback"))
    one = commands.add_parser("doctor", help="look for what is wrong")
    add_dir(one)
    one.add_argument("--json", action="store_true", help="for machines")
    one.set_defaults(command=_command("doctor"))


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        module = importlib.import_module("modelfleet_agent.operations.cli")
        code: int = getattr(module, name)(options)
        return code

    return run
