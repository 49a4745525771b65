"""One runtime child as the supervisor sees it: process, channel, orders that wait."""

import contextlib
import itertools
import socket
import subprocess
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass

import msgspec

from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime.children import (
    Limits,
    kill_group,
    python_child,
    signal_name,
    spawn,
)
from modelfleet_agent.runtime.messages import Answer, Order, Ready, Request, encode_settings
from modelfleet_agent.settings import RuntimeSettings

STDERR_LINES = 50
EXIT_S = 5.0
MOST_BYTES = 4 << 20
OOM_SCORE = 500
_encode = msgspec.json.Encoder().encode
_answers = msgspec.json.Decoder(Answer)
_ready = msgspec.json.Decoder(Ready)


@dataclass(frozen=True)
class RuntimeExit:
    """A child is gone.

    Attributes:
        pid: Which one.
        reason: In words: `killed by signal 11 (SIGSEGV)`, `exit code 1`.
        code: Exit code as `subprocess` gives it: negative for signals.
        stderr: The last lines that it wrote.
    """

    pid: int
    reason: str
    code: int
    stderr: str


class Channel:
    """One child, from its start to its end.

    `live` must run in a thread of its own: the child dies with the thread that starts it.
    """

    def __init__(self, settings: RuntimeSettings) -> None:
        """Nothing is started."""
        self.ready: Future[Ready] = Future()
        self.gone: Future[RuntimeExit] = Future()
        self._settings = settings
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Answer]] = {}
        self._lock = threading.Lock()
        self._ours, self._theirs = socket.socketpair()
        self._process: subprocess.Popen[bytes] | None = None

    def live(self) -> RuntimeExit:
        """Start the child, read what it says, reap it; fail what still waits then."""
        try:
            self._process = process = self._spawn()
        except RetryableError as error:
            self._ours.close()
            ended = RuntimeExit(0, error.what, 0, "")
            self._fail(ended)
            return ended
        finally:
            self._theirs.close()
        stderr: deque[bytes] = deque(maxlen=STDERR_LINES)
        draining = threading.Thread(target=_drain, args=(process, stderr), daemon=True)
        draining.start()
        self._read()
        try:
            process.wait(EXIT_S)
        except subprocess.TimeoutExpired:  # it closed its channel and lives on
            kill_group(process)
        code = process.wait()
        draining.join(EXIT_S)
        ended = RuntimeExit(process.pid, _reason(code), code, _text(stderr))
        self._fail(ended)
        return ended

    def order(self, order: Order, timeout_s: float) -> msgspec.Raw:
        """Send an order and return its result.

        Raises:
            RefusedError: The child says that the release is bad.
            RetryableError: It says that the world was in the way; `E_RUNTIME_GONE`;
                `E_RUNTIME_TIMEOUT`: no answer in time, the child is killed.
        """
        answered: Future[Answer] = Future()
        number = next(self._numbers)
        with self._lock:
            if self.gone.done():
                raise _gone(self.gone.result())
            self._waiting[number] = answered
            with contextlib.suppress(OSError):  # it just died: `live` fails `answered`
                self._ours.sendall(_encode(Request(id=number, order=order)) + b"\n")
        try:
            answer = answered.result(timeout_s)
        except TimeoutError:
            self.kill()
            what = f"the runtime did not answer `{type(order).__name__}` in {timeout_s:g} s"
            raise RetryableError("E_RUNTIME_TIMEOUT", what) from None
        if failure := answer.failure:
            kind = RefusedError if failure.refused else RetryableError
            raise kind(failure.code, failure.what)
        return answer.result

    def kill(self) -> None:
        """End the child at once. Idempotent."""
        if self._process and self._process.poll() is None:
            kill_group(self._process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        fd = self._theirs.fileno()
        settings = self._settings
        return spawn(
            python_child("modelfleet_agent.runtime", str(fd), encode_settings(settings)),
            Limits(
                memory_mb=settings.memory_mb,
                files=None,
                nice=settings.nice,
                oom_score=OOM_SCORE,
            ),
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def _read(self) -> None:
        # a child that speaks nonsense is as good as dead, and is killed by `live`
        reading = contextlib.suppress(ConnectionError, msgspec.MsgspecError)
        with self._ours, self._ours.makefile("rb") as lines, reading:
            while (line := lines.readline(MOST_BYTES)).endswith(b"\n"):
                self._take(line)

    def _take(self, line: bytes) -> None:
        if not self.ready.done():
            self.ready.set_result(_ready.decode(line))
            return
        answer = _answers.decode(line)
        with self._lock:
            waiting = self._waiting.pop(answer.id, None)
        if waiting:
            waiting.set_result(answer)

    def _fail(self, ended: RuntimeExit) -> None:
        with self._lock:
            self.gone.set_result(ended)
            waiting = list(self._waiting.values())
            self._waiting.clear()
        if not self.ready.done():
            last = (ended.stderr.strip().splitlines() or [""])[-1]
            what = f"the runtime did not start: {ended.reason}: {last}"
            self.ready.set_exception(RetryableError("E_RUNTIME_START", what))
        for future in waiting:
            future.set_exception(_gone(ended))


def _gone(ended: RuntimeExit) -> RetryableError:
    return RetryableError("E_RUNTIME_GONE", f"the runtime is gone: {ended.reason}")


def _drain(process: subprocess.Popen[bytes], lines: deque[bytes]) -> None:
    assert process.stderr is not None  # noqa: S101 - always a pipe
    with process.stderr as stream:
        lines.extend(stream)


def _text(lines: deque[bytes]) -> str:
    return b"".join(lines).decode(errors="replace")


def _reason(code: int) -> str:
    return f"killed by {signal_name(code)}" if code < 0 else f"exit code {code}"
