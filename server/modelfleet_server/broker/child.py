"""A broker as a child process: started, watched, started again, stopped."""

import logging
import os
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO

from modelfleet_server.broker import launch
from modelfleet_server.broker.address import LOOPBACK, Address
from modelfleet_server.broker.ports import free_port, is_free, read_port
from modelfleet_server.broker.probe import SilentError, ask
from modelfleet_server.kit.errors import UnavailableError

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Picked ports to try: another process may take one before the broker does."""

FIRST_DELAY_S, LAST_DELAY_S = 0.25, 30.0
STEADY_S = 30.0
"""A child that lived this long starts the backoff anew, in seconds."""

_READY_PAUSE_S = 0.03
_STOP_S = 10.0

Command = list[str]


class Recipe(ABC):
    """How to run one kind of broker."""

    name: str
    warning: str = ""
    """What whoever runs it should know, logged at the start."""

    @abstractmethod
    def prepare(self, folder: Path, address: Address) -> Command:
        """Write what the broker needs into `folder`; return the command to run."""


def this_python(*arguments: str) -> Command:
    """Return the command that runs `launch` with these arguments as our child."""
    return [sys.executable, "-P", str(Path(launch.__file__)), str(os.getpid()), *arguments]


class ChildBroker:
    """One broker child at a time, always on the same port.

    A thread starts the child and waits for its end, since the kernel ends the child with
    the thread that started it. If it dies it is started again after 0.25 s, 0.5 s ... 30 s.

    Args:
        recipe: Which broker.
        folder: For its configuration, log and memory; made when missing.
        port: 0 picks one and remembers it in `folder`.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, port: int = 0) -> None:
        self.recipe = recipe
        self.folder = folder.absolute()
        self.restarts = 0
        self._port = port
        self.address: Address | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._settled = threading.Event()
        self._trouble = ""

    @property
    def alive(self) -> bool:
        """Whether the child runs now."""
        process = self._process
        return process is not None and process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process id of the present child, None between two."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self, timeout_s: float = 15) -> Address:
        """Start the child, wait until it answers, and keep it running until `stop`.

        Raises:
            UnavailableError: It did not answer within `timeout_s` seconds; none runs then.
        """
        if self._thread is not None:
            raise RuntimeError("the broker is started already")
        if self.recipe.warning:
            log.warning("%s", self.recipe.warning)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stopping.clear()
        self._settled.clear()
        self._thread = threading.Thread(
            target=self._watch, args=(timeout_s,), name="broker", daemon=True
        )
        self._thread.start()
        self._settled.wait()
        if self.address is None:
            self.stop()
            raise UnavailableError(
                f"the {self.recipe.name} broker did not start: {self._trouble}",
                f"Look into {self._log_path}, or choose another broker in the settings.",
            )
        return self.address

    def stop(self) -> None:
        """End the child and wait for its end; a kill follows after ten seconds."""
        self._stopping.set()
        with self._lock:
            process = self._process
            if process is not None and process.poll() is None:
                process.terminate()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        thread.join(_STOP_S)
        if thread.is_alive() and process is not None:
            log.warning("the %s broker does not end; killing it", self.recipe.name)
            process.kill()
            thread.join()

    @property
    def _log_path(self) -> Path:
        return self.folder / f"{self.recipe.name}.log"

    def _watch(self, timeout_s: float) -> None:
        try:
            with self._log_path.open("wb") as sink:
                address = self._start_first(sink, time.monotonic() + timeout_s)
                self._settled.set()
                if address is not None:
                    self._keep(address, sink)
        except Exception as error:
            log.exception("the watch over the broker failed")
            self._trouble = str(error)
        finally:
            self._settled.set()
            self._end()

    def _start_first(self, sink: IO[bytes], end: float) -> Address | None:
        for port in self._ports():
            address = Address(LOOPBACK, port)
            if self._spawn(address, sink) and self._await_answer(address, end):
                (self.folder / "port").write_text(f"{port}\n")
                self.address = address
                return address
            self._end()
            if self._stopping.is_set() or time.monotonic() > end:
                break
        return None

    def _ports(self) -> list[int]:
        if self._port:
            return [self._port]
        remembered = read_port(self.folder / "port")
        ports = [free_port() for _ in range(ATTEMPTS)]
        return [remembered, *ports] if remembered and is_free(remembered) else ports

    def _spawn(self, address: Address, sink: IO[bytes]) -> bool:
        """Start a child unless the port is taken: whoever is there would answer for it."""
        if not is_free(address.port):
            self._trouble = f"port {address.port} of {address.host} is in use"
            return False
        command = self.recipe.prepare(self.folder, address)
        with self._lock:
            if self._stopping.is_set():
                return False
            self._process = subprocess.Popen(  # noqa: S603 our own command, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,  # Ctrl-C is for the server, which stops us in order
            )
        return True

    def _await_answer(self, address: Address, end: float) -> bool:
        while not self._stopping.wait(_READY_PAUSE_S):
            if not self.alive:
                self._trouble = f"it ended at once: {_last_lines(self._log_path)}"
                return False
            try:
                ask(address, timeout_s=1)
            except SilentError as error:
                self._trouble = f"{address} does not answer: {error}"
            else:
                return True
            if time.monotonic() > end:
                return False
        self._trouble = "stopped while it started"
        return False

    def _keep(self, address: Address, sink: IO[bytes]) -> None:
        delay = FIRST_DELAY_S
        while True:
            began = time.monotonic()
            code = self._process.wait() if self._process is not None else None
            if self._stopping.is_set():
                return
            delay = FIRST_DELAY_S if time.monotonic() - began > STEADY_S else delay
            log.warning(
                "the %s broker ended with %s; starting it again in %.2f s",
                *(self.recipe.name, code, delay),
            )
            if self._stopping.wait(delay):
                return
            delay = min(2 * delay, LAST_DELAY_S)
            self._process = None
            if self._spawn(address, sink):
                self.restarts += 1

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _last_lines(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines()
    return " | ".join(lines[-3:]) or "it wrote nothing"
