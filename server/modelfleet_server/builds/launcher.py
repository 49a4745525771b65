"""One limited child from start to answer: its pipes, its deadline, and how it died."""

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import IO, NamedTuple

import msgspec

import modelfleet_manifests
import modelfleet_server
from modelfleet_server.builds.errors import ChildError, from_answer
from modelfleet_server.builds.messages import Answer, Job, Limits, Order
from modelfleet_server.jobs.domain import Progress

LOOK_EVERY_S = 0.2
MAX_OUTPUT = 1 << 20
STDERR_KEPT = 4096
HINT = "Publish a smaller model, or give builds more room in the settings."


class StoppedError(Exception):
    """The server shuts down: the build did not fail, it will run again."""

    def __str__(self) -> str:
        return "the server stops"


class Ask:
    """What a running child may be asked to do, and told by.

    Args:
        on_progress: Called for each step, in the caller's thread.
        stop: When set, the child is killed.
    """

    def __init__(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        stop: Event | None = None,
    ) -> None:
        self.on_progress = on_progress or (lambda _progress: None)
        self.stop = stop or Event()


class Machine(NamedTuple):
    """What starts a child: this Python, or one under an emulator.

    Attributes:
        start: The program and its first arguments.
        environment: What else it must be told.
        foreign: Its packages are its own; those beside this server are no use to it.
    """

    start: tuple[str, ...]
    environment: Mapping[str, str] = {}
    foreign: bool = False


HERE = Machine((sys.executable,))


def run_child(
    job: Job, limits: Limits, folder: Path, ask: Ask, *, machine: Machine = HERE
) -> Answer:
    """Run one job to its end and return the last answer.

    Args:
        job: What to do.
        limits: What the child may use.
        folder: Its working directory.
        ask: Progress and stop.
        machine: What it is started by.

    Raises:
        InvalidError: The child says that it is refused.
        ChildError: It ended without an answer.
        StoppedError: `ask.stop` was set.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(  # noqa: S603 our own program, perhaps emulated
            [*machine.start, "-P", "-m", "modelfleet_server.builds.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=folder,
            env=_environment(folder, machine),
            start_new_session=True,
        )
        order = Order(job=job, limits=limits, parent=os.getpid())
        with process:
            try:
                last, over = _converse(process, order, ask)
            finally:
                _kill(process)
        if ask.stop.is_set():
            raise StoppedError
        if last is None or process.returncode != 0:
            raise _death(process.returncode, over, limits, _tail(complaints))
    if last.error is not None:
        raise from_answer(last.error)
    return last


def _environment(folder: Path, machine: Machine) -> dict[str, str]:
    """Nothing of the server's own environment: it may hold secrets."""
    packages = [
        Path(package.__file__).parent
        for package in (modelfleet_server, modelfleet_manifests)
        if package.__file__
    ]
    homes = {str(package.parent) for package in packages}
    if machine.foreign:
        ours = folder / "packages"
        ours.mkdir()
        for package in packages:
            (ours / package.name).symlink_to(package)
        homes = {str(ours)}
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(sorted(homes)),
        "PYTHONHASHSEED": "0",  # sets in the tools must not change a variant's bytes
        "PYTHONDONTWRITEBYTECODE": "1",
        "ORT_DISABLE_TELEMETRY": "1",  # its wheels send usage data to their maker otherwise
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TMPDIR": str(folder),
        "HOME": str(folder),
        **machine.environment,
    }


def _converse(
    process: subprocess.Popen[bytes], order: Order, ask: Ask
) -> tuple[Answer | None, str]:
    """Return the result, and which limit of ours ended the child ("" if none did)."""
    assert process.stdin  # noqa: S101 - a pipe, see Popen above
    assert process.stdout  # noqa: S101
    deadline = time.monotonic() + order.limits.wall_s
    try:
        process.stdin.write(msgspec.json.encode(order))
        process.stdin.close()
    except BrokenPipeError:
        return None, ""  # it died at once; its exit code says why
    lines = _Lines(process.stdout)
    last: Answer | None = None
    while not lines.ended:
        for line in lines.more(LOOK_EVERY_S):
            answer = msgspec.json.decode(line, type=Answer)
            if answer.progress is not None:
                ask.on_progress(Progress(*answer.progress))
            else:
                last = answer
        if ask.stop.is_set():
            return None, "stopped"
        if time.monotonic() > deadline:
            return None, f"did not end within {order.limits.wall_s:g} s"
        if lines.taken > MAX_OUTPUT:
            return None, f"wrote more than {MAX_OUTPUT} bytes"
    process.wait(timeout=max(1.0, deadline - time.monotonic()))
    return last, ""


class _Lines:
    """Whole lines of a pipe, as they come."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.ended = False
        self.taken = 0
        self._pipe = pipe
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(pipe, selectors.EVENT_READ)

    def more(self, timeout_s: float) -> list[bytes]:
        """Return the lines that came within `timeout_s`; sets `ended` at the end."""
        if not self._selector.select(timeout_s):
            return []
        block = os.read(self._pipe.fileno(), 65536)
        if not block:
            self.ended = True
            self._selector.close()
        self.taken += len(block)
        *lines, self._rest = (self._rest + block).split(b"\n")
        return lines


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _tail(complaints: IO[bytes]) -> str:
    size = complaints.seek(0, os.SEEK_END)
    complaints.seek(max(0, size - STDERR_KEPT))
    text = complaints.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _death(code: int, over: str, limits: Limits, said: str) -> ChildError:
    """Return why a child ended without an answer."""
    if over:
        why = f"the process {over}"
    elif code == -signal.SIGXCPU:
        why = f"the process used more than {limits.cpu_s} s of CPU time"
    elif code == -signal.SIGXFSZ:
        why = f"the process wrote a file of more than {limits.file_mb} MiB"
    elif code < 0:
        name = signal.Signals(-code).name
        why = f"the process was ended by {name}"
        if code == -signal.SIGKILL:
            why += ", probably because the machine ran out of memory"
    else:
        why = f"the process ended with exit code {code}"
    return ChildError(f"{why}; it last said: {said}" if said else why, HINT)
