"""Where the demonstration plays: a directory, and processes that all end with it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from modelfleet_server.broker import launch
from modelfleet_server.demo.waiting import PromiseError, tail_of
from modelfleet_server.kit.errors import ConflictError

SERVER = (
    sys.executable,
    "-c",
    "import sys; from modelfleet_server.main import main; sys.exit(main())",
)
LAUNCH = (sys.executable, "-P", launch.__file__)
"""Makes what it becomes end with us, also where we are killed."""
AGENT = (sys.executable, "-m", "modelfleet_agent")
STOP_S = 8.0
COMMAND_S = 120.0


@dataclass(frozen=True, slots=True)
class Child:
    """A process of the demonstration, in a session of its own.

    Attributes:
        name: As it is spoken of.
        log: What it writes.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Stage:
    """Starts processes, and ends all of them when it is closed.

    Every child gets a session of its own, so that Ctrl-C reaches only the demonstration,
    which then ends them in order.

    Args:
        home: Kept afterwards, new or empty; None for a temporary directory, removed.
    """

    def __init__(self, home: Path | None = None) -> None:
        self._kept = home is not None
        self.home = _empty(home) if home else Path(tempfile.mkdtemp(prefix="modelfleet-"))
        self.logs = self.home / "logs"
        self.logs.mkdir()
        self._children: list[Child] = []
        self._environ = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("MODELFLEET_")
        }
        self._environ["PYTHONUNBUFFERED"] = "1"
        # commands act on this demonstration and leave the login of whoever runs it alone
        self._environ["MODELFLEET_CONFIG"] = str(self.home / "login.json")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def use(self, **variables: str) -> None:
        """Give every child from now on these environment variables."""
        self._environ |= variables

    def start(self, name: str, program: Sequence[str]) -> Child:
        """Start a process that goes on, until this one closes the stage or is killed.

        Only from the thread that closes it: the kernel ends the child with that thread.
        """
        log = self.logs / f"{name}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(  # noqa: S603 our own programs
                [*LAUNCH, str(os.getpid()), "exec", *program],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environ,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def command(self, *arguments: str) -> dict[str, Any]:
        """Run a `modelfleet` command with `--json` and return what it prints.

        Raises:
            PromiseError: It failed; the error has what it said.
        """
        shown = " ".join(["modelfleet", *arguments])
        said = self.run(shown, [*SERVER, *arguments, "--json"])
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    def run(self, name: str, program: Sequence[str], *, given: str = "") -> str:
        """Run a program to its end, `given` on its input, and return its output.

        Raises:
            PromiseError: It failed, or took longer than `COMMAND_S`.
        """
        try:
            done = subprocess.run(  # noqa: S603
                list(program),
                input=given,
                capture_output=True,
                check=False,
                text=True,
                timeout=COMMAND_S,
                env=self._environ,
            )
        except subprocess.TimeoutExpired:
            raise PromiseError(f"`{name}` did not end within {COMMAND_S:g} s") from None
        if done.returncode:
            said = (done.stdout + done.stderr).strip()
            raise PromiseError(f"`{name}` ended with {done.returncode}", said)
        return done.stdout

    def check(self) -> None:
        """Go on if every process that should run does.

        Raises:
            PromiseError: One ended.
        """
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise PromiseError(
                    f"{child.name} ended by itself with {code}",
                    f"The end of {child.log}:\n{tail_of(child.log)}",
                )

    def stop(self, child: Child) -> None:
        """End a process in good order: SIGTERM, and SIGKILL for it and its own if late."""
        self._children.remove(child)
        _end([child])

    def close(self) -> None:
        """End all processes, newest first, and remove a temporary home."""
        before = signal.getsignal(signal.SIGINT)
        _ignore_interrupts(signal.SIG_IGN)  # a second Ctrl-C must not leave any behind
        try:
            children, self._children = self._children[::-1], []
            _end(children)
            if not self._kept:
                shutil.rmtree(self.home, ignore_errors=True)
        finally:
            _ignore_interrupts(before)


def _ignore_interrupts(handler: Any) -> None:  # noqa: ANN401 what the signal module gives
    with contextlib.suppress(ValueError):  # not the main thread: it gets no signals
        signal.signal(signal.SIGINT, handler)


def _end(children: Sequence[Child]) -> None:
    for child in children:
        _signal(child, signal.SIGTERM)
    for child in children:
        try:
            child.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            _signal(child, signal.SIGKILL)
            child.process.wait()


def _signal(child: Child, number: int) -> None:
    """Send a signal: SIGTERM to the process, SIGKILL also to what it started."""
    with contextlib.suppress(ProcessLookupError):
        if number == signal.SIGKILL:
            os.killpg(child.process.pid, number)
        else:
            child.process.send_signal(number)


def _empty(home: Path) -> Path:
    home = home.absolute()
    if home.exists() and any(home.iterdir()):
        raise ConflictError(
            f"the directory {home} is not empty",
            "Name another with --home.",
            home=str(home),
        )
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    return home
