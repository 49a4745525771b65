"""Throw-away children under limits: self-tests, patches and metadata."""

import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import IO

from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.runtime.children import (
    Limits,
    kill_group,
    python_child,
    signal_name,
    spawn,
)

__all__ = ["Child", "Ending", "Limits", "Outcome", "python_child", "run_limited"]

STDERR_KEPT = 8192
CANCEL_EVERY_S = 0.1
_NO_MEMORY = ("MemoryError", "bad_alloc", "Cannot allocate memory", "bad allocation")


class Ending(StrEnum):
    """How a limited child ended."""

    DONE = "done"
    FAILED = "failed"
    MEMORY = "memory limit"
    CPU = "CPU time limit"
    WALL = "time limit"
    OUTPUT = "output limit"
    CRASHED = "crashed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Outcome:
    """What became of a limited child.

    Attributes:
        ending: `DONE` is exit code 0.
        reason: One sentence for people.
        code: Exit code as `subprocess` gives it: negative for signals.
        stdout: What it wrote.
        stderr: The last 8 KiB of what it complained.
        wall_ms: How long it ran.
        memory_kib: Its peak resident memory.
    """

    ending: Ending
    reason: str
    code: int
    stdout: bytes
    stderr: str
    wall_ms: int
    memory_kib: int

    @property
    def ok(self) -> bool:
        """It ended by itself with exit code 0."""
        return self.ending is Ending.DONE


@dataclass
class _Watch:
    """One running child: feeds it, reads it and ends it."""

    process: subprocess.Popen[bytes]
    limits: Limits
    cancel: threading.Event | None
    pending: memoryview
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    killed: Ending | None = None

    def run(self) -> None:
        """Return when the child has ended; it is not reaped yet."""
        deadline = monotonic_s() + self.limits.wall_s
        pidfd = os.pidfd_open(self.process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(pidfd, selectors.EVENT_READ)
                self._register(selector)
                while not self._step(selector, pidfd, deadline):
                    pass
        finally:
            kill_group(self.process)  # and whatever it left behind
            os.close(pidfd)
        self._read_rest()

    def _register(self, selector: selectors.BaseSelector) -> None:
        for stream, buffer in self._outputs():
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, buffer)
        if self.process.stdin:
            os.set_blocking(self.process.stdin.fileno(), False)
            selector.register(self.process.stdin, selectors.EVENT_WRITE)

    @property
    def _most(self) -> int:
        return self.limits.output_kb << 10

    def _step(self, selector: selectors.BaseSelector, pidfd: int, deadline: float) -> bool:
        left = deadline - monotonic_s()
        for key, _ in selector.select(min(max(left, 0), CANCEL_EVERY_S)):
            if key.fd == pidfd:
                return True
            if key.data is None:
                self._feed(selector)
            elif not self._read(key.fileobj, key.data):  # type: ignore[arg-type]
                selector.unregister(key.fileobj)
        self._judge(left)
        return False

    def _judge(self, left: float) -> None:
        if self.killed:
            return
        if left <= 0:
            self.killed = Ending.WALL
        elif self.cancel and self.cancel.is_set():
            self.killed = Ending.CANCELLED
        elif len(self.stdout) > self._most:
            self.killed = Ending.OUTPUT
        if self.killed:
            kill_group(self.process)

    def _feed(self, selector: selectors.BaseSelector) -> None:
        stream = self.process.stdin
        assert stream is not None  # noqa: S101 - registered only where it is there
        try:
            self.pending = self.pending[os.write(stream.fileno(), self.pending[:65536]) :]
        except BrokenPipeError:
            self.pending = memoryview(b"")  # it does not read; its exit says why
        if not self.pending:
            selector.unregister(stream)
            stream.close()

    def _outputs(self) -> list[tuple[IO[bytes], bytearray]]:
        pairs = ((self.process.stdout, self.stdout), (self.process.stderr, self.stderr))
        return [(stream, buffer) for stream, buffer in pairs if stream]

    def _read(self, stream: IO[bytes], buffer: bytearray) -> bool:
        block = os.read(stream.fileno(), 65536)
        buffer += block
        if buffer is self.stderr:
            del buffer[:-STDERR_KEPT]
        return bool(block)

    def _read_rest(self) -> None:
        for stream, buffer in self._outputs():
            try:
                while self._read(stream, buffer) and len(buffer) <= self._most:
                    pass
            except BlockingIOError:
                continue  # a stray grandchild holds the pipe: its words are not awaited


class Child:
    """A limited child that was started and is yet to be told all that it is to do.

    Started ahead of its work, its interpreter and its imports keep nobody waiting. It is
    its own process group, gets no open file but its standard ones, and dies with the thread
    that made it, which is the one that uses it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        limits: Limits,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start `argv` under `limits`; wall time is not counted before `finish`.

        Raises:
            RetryableError: `E_SPAWN`: it could not be started.
        """
        self.limits = limits
        self._process = spawn(argv, limits, environment=environment)
        assert self._process.stdin  # noqa: S101 - spawn opened it
        self._input = self._process.stdin.fileno()
        os.set_blocking(self._input, False)

    @property
    def waits(self) -> bool:
        """It has not ended."""
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self._process.pid, look) is None

    def tell(self, line: bytes) -> bool:
        """Write a line to its standard input; False where it reads none, or is gone."""
        try:
            return os.write(self._input, line) == len(line)
        except (BlockingIOError, BrokenPipeError):
            return False

    def finish(
        self, stdin: bytes = b"", *, cancel: threading.Event | None = None
    ) -> Outcome:
        """Write `stdin`, close it and wait for the end, never longer than its wall time."""
        began, limits = monotonic_s(), self.limits
        watch = _Watch(self._process, limits, cancel, memoryview(stdin))
        with self._process as process:
            watch.run()
            _, status, usage = os.wait4(process.pid, 0)
            code = process.returncode = os.waitstatus_to_exitcode(status)
        stderr = watch.stderr.decode(errors="replace")
        ending = watch.killed or _ending(
            code, stderr, usage.ru_utime + usage.ru_stime, limits
        )
        return Outcome(
            ending=ending,
            reason=_reason(ending, code, stderr, limits),
            code=code,
            stdout=bytes(watch.stdout),
            stderr=stderr,
            wall_ms=round((monotonic_s() - began) * 1000),
            memory_kib=usage.ru_maxrss,
        )

    def abandon(self) -> None:
        """Kill it: what it does is not wanted any more."""
        kill_group(self._process)
        self._process.communicate()


def run_limited(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    limits: Limits,
    cancel: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run `argv` to its end, never longer than `limits.wall_s`.

    The child gets a bare environment (`environment` adds to it). Use `python_child` for
    modules of this agent.

    Raises:
        RetryableError: `E_SPAWN`: it could not be started.
    """
    return Child(argv, limits, environment=environment).finish(stdin, cancel=cancel)


def _ending(code: int, stderr: str, cpu_s: float, limits: Limits) -> Ending:
    if code == 0:
        return Ending.DONE
    if code == -signal.SIGXCPU or (limits.cpu_s and cpu_s >= limits.cpu_s):
        return Ending.CPU
    if code == -signal.SIGKILL or any(word in stderr for word in _NO_MEMORY):
        return Ending.MEMORY  # nobody else kills: the kernel, out of memory
    return Ending.CRASHED if code < 0 else Ending.FAILED


def _reason(ending: Ending, code: int, stderr: str, limits: Limits) -> str:
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
    memory = f"{limits.memory_mb} MiB of" if limits.memory_mb else "the available"
    texts = {
        Ending.DONE: "done",
        Ending.FAILED: f"exit code {code}: {last[:300]}",
        Ending.MEMORY: f"needed more than {memory} memory",
        Ending.CPU: f"used more than {limits.cpu_s} s of CPU time",
        Ending.WALL: f"did not end within {limits.wall_s:g} s",
        Ending.OUTPUT: f"wrote more than {limits.output_kb} KiB",
        Ending.CRASHED: f"crashed: {signal_name(code)}",
        Ending.CANCELLED: "cancelled",
    }
    return texts[ending]
