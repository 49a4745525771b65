"""Starts limited children and waits for their answers, never longer than allowed."""

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import IO

import msgspec

import modelfleet_manifests
import modelfleet_server
from modelfleet_server.builds.domain import (
    Answer,
    BuildJob,
    Built,
    InspectJob,
    Job,
    Limits,
    ModelFacts,
    Order,
    PlainJob,
    Progress,
    Verdict,
    VerifyJob,
)
from modelfleet_server.builds.errors import ChildError, ModelRunError, from_answer

LOOK_EVERY_S = 0.2
MAX_OUTPUT = 1 << 20
STDERR_KEPT = 4096
INSPECT_LIMITS = Limits(cpu_s=60, wall_s=120.0)
DOOR_S, PLAIN_S = 25.0, 30.0
"""How long each half of `check` may take: reading the file, and running it."""
SIMPLIFY = (
    "A model that cannot be loaded and run in half a minute, in a few times its own size, "
    "is not let in: simplify it."
)
_MIB = 1 << 20
_HINT = "Publish a smaller model, or give builds more room in the settings."


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


def inspect(
    model: Path, *, packed: Path | None = None, limits: Limits = INSPECT_LIMITS
) -> ModelFacts:
    """Return the facts of a model file, found out in a limited child.

    Args:
        model: The file; with external data beside it only where `packed` is given.
        packed: Where to write one file with external data in it. Nothing is written there
            if the model has none.
        limits: What the child may use.

    Raises:
        ModelError: It is refused; says why and what to do.
        ChildError: The child went over a limit.
    """
    job = InspectJob(
        model=str(model.absolute()),
        packed=None if packed is None else str(packed.absolute()),
    )
    with tempfile.TemporaryDirectory(prefix="modelfleet-inspect-") as folder:
        answer = run_child(job, limits, Path(folder), Ask())
    if answer.facts is None:
        raise ChildError("the check of the model ended without an answer", _HINT)
    return answer.facts


def check(model: Path, *, packed: Path | None = None) -> ModelFacts:
    """Return the facts of a model that may be published: the whole door, and a first run.

    Ends within a minute whatever the file, in memory of a few times the model's size.

    Args:
        model: The file, with external data beside it.
        packed: Where to write one file with external data in it, as `inspect` does.

    Raises:
        ModelError: It is refused; says why and what to do.
    """
    try:
        size = model.stat().st_size if model.is_file() else 0
        with tempfile.TemporaryDirectory(prefix="modelfleet-check-") as folder:
            target = packed or Path(folder) / "packed.onnx"
            facts = inspect(model, packed=target, limits=_check_limits(size, DOOR_S))
            size += sum((model.parent / name).stat().st_size for name in facts.external)
            job = PlainJob(model=str(model.absolute()), schema=facts.schema)
            answer = run_child(job, _check_limits(size, PLAIN_S), Path(folder), Ask())
    except ChildError as error:
        raise ModelRunError(f"{model.name} is refused: {error.what}", SIMPLIFY) from None
    if not answer.ran:
        raise ModelRunError(f"{model.name} ended its check without an answer", SIMPLIFY)
    return facts


def _check_limits(length: int, wall_s: float) -> Limits:
    megabytes = length // _MIB + 1
    return Limits(
        memory_mb=1024 + 4 * megabytes,
        cpu_s=int(wall_s),
        wall_s=wall_s,
        file_mb=64 + 4 * megabytes,
    )


def build(job: BuildJob, limits: Limits, folder: Path, ask: Ask) -> Built:
    """Build a variant into `folder`.

    Raises:
        InvalidError: The master, a data set or the recipe is at fault.
        ChildError: The child crashed or went over a limit.
        StoppedError: `ask.stop` was set.
    """
    answer = run_child(job, limits, folder, ask)
    if answer.built is None:
        raise ChildError("the build ended without an answer", _HINT)
    return answer.built


def verify(job: VerifyJob, limits: Limits) -> Verdict:
    """Build a variant again in a limited child, and say whether it is the same.

    Raises:
        InvalidError: Master, calibration set or recipe are at fault.
        ChildError: The child went over a limit.
    """
    with tempfile.TemporaryDirectory(prefix="modelfleet-verify-") as folder:
        answer = run_child(job, limits, Path(folder), Ask())
    if answer.verdict is None:
        raise ChildError("the verification ended without an answer", _HINT)
    return answer.verdict


def limits_for(length: int, *, wall_s: float = 900.0) -> Limits:
    """Return what a build of a master of `length` bytes may use."""
    megabytes = length // _MIB + 1
    return Limits(
        memory_mb=2048 + 12 * megabytes,
        cpu_s=int(wall_s),
        wall_s=wall_s,
        file_mb=64 + 4 * megabytes,
    )


def run_child(job: Job, limits: Limits, folder: Path, ask: Ask) -> Answer:
    """Run one job to its end and return the last answer.

    Raises:
        InvalidError: The child says that it is refused.
        ChildError: It ended without an answer.
        StoppedError: `ask.stop` was set.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "modelfleet_server.builds.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=folder,
            env=_environment(folder),
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


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the server's own environment: it may hold secrets."""
    homes = {
        str(Path(package.__file__).parents[1])
        for package in (modelfleet_server, modelfleet_manifests)
        if package.__file__
    }
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
    return ChildError(f"{why}; it last said: {said}" if said else why, _HINT)
