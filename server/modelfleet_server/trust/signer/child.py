"""The signer as a child process: started, watched, started again, stopped."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import modelfleet_manifests
import modelfleet_server
from modelfleet_server.kit.errors import UnavailableError

log = logging.getLogger(__name__)

FIRST_DELAY_S, LAST_DELAY_S = 0.1, 30.0
STEADY_S = 30.0
"""A child that lived this long starts the backoff anew, in seconds."""
READY_S = 20.0
STOP_S = 5.0


class SignerChild:
    """One signer at a time. If it dies it is started again after 0.1 s, 0.2 s ... 30 s.

    Args:
        keys: The first file of online keys.
        path: Where the signer listens.
    """

    def __init__(self, keys: Path, path: Path) -> None:
        self._keys, self._path = keys, path
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._trouble = ""
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """Process id of the present child, None between two."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the child; `wait_ready` says when it answers."""
        self._process = self._spawn()
        self._thread = threading.Thread(target=self._watch, name="signer", daemon=True)
        self._thread.start()

    def wait_ready(self) -> None:
        """Return once it answers for the first time.

        Raises:
            UnavailableError: It did not start; says why.
        """
        if not self._settled.wait(READY_S) or self._trouble:
            self.stop()
            raise UnavailableError(
                f"the signer did not start: {self._trouble or 'it says nothing'}",
                "It holds the online keys; see the files in keys/ of the home.",
            )

    def stop(self) -> None:
        """End the child and wait for its end. May be called twice."""
        self._stopping.set()
        process = self._process
        if process is not None:
            _close(process, output=False)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _spawn(self) -> subprocess.Popen[bytes]:
        module = "modelfleet_server.trust.signer"
        return subprocess.Popen(  # noqa: S603 our own program
            [sys.executable, "-P", "-m", module, str(self._keys), str(self._path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the server, which stops us in order
        )

    def _watch(self) -> None:
        delay = FIRST_DELAY_S
        while self._process is not None:
            began = time.monotonic()
            trouble = _read_start(self._process)
            if not self._settled.is_set():
                self._trouble = trouble
                self._settled.set()
            code = self._process.wait()
            _close(self._process)
            if self._stopping.is_set() or self._trouble:
                return
            delay = FIRST_DELAY_S if time.monotonic() - began > STEADY_S else delay
            log.warning(
                "the signer ended with %s (%s); starting it again in %.1f s",
                *(code, trouble or "it ran", delay),
            )
            if self._stopping.wait(delay):
                return
            delay = min(2 * delay, LAST_DELAY_S)
            self._process = self._spawn()
            self.restarts += 1
            if self._stopping.is_set():  # `stop` may have looked just before
                _close(self._process, output=False)


def _read_start(process: subprocess.Popen[bytes]) -> str:
    """Return why a child did not start, "" if it did; waits for its first line."""
    assert process.stdout  # noqa: S101 - a pipe, see Popen above
    try:
        said = json.loads(process.stdout.readline())
    except ValueError:
        return "it ended at once; see the log"
    return "" if "ready" in said else f"{said['what']}. {said['hint']}".strip()


def _close(process: subprocess.Popen[bytes], *, output: bool = True) -> None:
    """Let go of the pipes; the end of its input ends a child."""
    for pipe in (process.stdin, process.stdout if output else None):
        if pipe is not None:
            pipe.close()


def _environment() -> dict[str, str]:
    """Nothing of the server's own environment: it may hold secrets."""
    homes = {
        str(Path(package.__file__).parents[1])
        for package in (modelfleet_server, modelfleet_manifests)
        if package.__file__
    }
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(sorted(homes)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
