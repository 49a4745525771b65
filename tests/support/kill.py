"""The kill harness: a real agent whose changes of the disk are traced, cut or refused.

`python tests/support/kill.py CONTROL ARGUMENT…` runs `modelfleet-agent` with the arguments.
The file CONTROL holds an `Order` and may be replaced while the agent runs. Changes are
named as `fsio` announces them, by operation and path; ids and numbers in paths are cut out,
so that two runs of the same update name the same changes.

    trace   write each change to a file, and each one that does not go through `fsio`
    kill    die with -9 just before a change
    a name  of an errno, such as ENOSPC: changes fail from there on, `times` in all

The metadata child runs in the harness, too, and takes the agent with it when it dies, as a
power cut does.
"""

import errno
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.cli import main
from modelfleet_agent.runtime.children import python_child
from modelfleet_agent.trust import door

HERE = Path(__file__)
_IDS = re.compile(r"dev-[0-9a-f]{8}|[0-9a-f]{32,}|\d+|(?<=floors\.)[ab]")
CHILD = "modelfleet_agent.trust"
# What Python tells of changes of the disk: the event, and which argument is the path.
_CHANGES = {
    "os.rename": 1,
    "os.remove": 0,
    "os.mkdir": 0,
    "os.rmdir": 0,
    "os.link": 1,
    "os.symlink": 1,
    "os.truncate": 0,
    "os.chmod": 0,
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
NO_SPACE = frozenset(
    {"create", "write", "mkdir", "rename", "symlink", "link", "open", "fsync"}
)


@dataclass(frozen=True, order=True)
class KillPoint:
    """One change of the disk: the COUNT-th OPERATION on a path that PATTERN matches."""

    operation: str
    pattern: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.count}. {self.operation} of {self.pattern}"


@dataclass(frozen=True)
class Order:
    """What is done to the agent.

    Attributes:
        do: `trace`, `kill` or the name of an errno.
        point: Where, for all but `trace`.
        times: How many changes fail.
        log: Where `trace` writes.
    """

    do: str
    point: KillPoint | None = None
    times: int = 1
    log: str = ""


def command(control: Path) -> list[str]:
    """Return what to run in place of `python -m modelfleet_agent`."""
    return [sys.executable, str(HERE), str(control)]


def give(control: Path, order: Order | None) -> None:
    """Replace the order; None leaves the agent alone."""
    new = control.with_suffix(".new")
    new.write_text(json.dumps(asdict(order)) if order else "")
    new.replace(control)


def shorten(path: Path, root: Path) -> str:
    """Return `path` below `root` without its ids and numbers."""
    return "/" + _IDS.sub("*", os.path.relpath(path, root))


def enumerate_points(lines: Sequence[str]) -> list[KillPoint]:
    """Return the points of a trace, each occurrence of a change its own."""
    seen: dict[tuple[str, str], int] = {}
    points = []
    for line in lines:
        operation, _, path = line.partition(" ")
        seen[operation, path] = seen.get((operation, path), 0) + 1
        pattern = f"^{re.escape(path)}$"
        points.append(KillPoint(operation, pattern, seen[operation, path]))
    return points


class Harness:
    """Looks at each change of this process.

    Args:
        control: Holds the order.
        root: The agent's directory.
        child: This is the metadata child: one of several in a row, so that they count in a
            file, and kill their parent first.
    """

    def __init__(self, control: Path, root: Path, *, child: bool = False) -> None:
        self._control = control
        self._root = root
        self._child = child
        self._stamp: tuple[int, int] = (0, 0)
        self._order: Order | None = None
        self._count = self._failed = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Know the order before the first change."""
        with self._lock:
            self._read()

    def look(self, operation: str, path: Path) -> None:
        """Take one change; called just before it."""
        with self._lock:
            order = self._read()
            if order is None:
                return
            name = shorten(path, self._root)
            if order.do == "trace":
                self._write(order, f"{operation} {name}")
            elif self._is_at(order, operation, name):
                self._act(order, operation)

    def audit(self, event: str, arguments: Sequence[object]) -> None:
        """Trace a change that nobody announced."""
        order = self._order
        if order is None or order.do != "trace":
            return
        place = _CHANGES.get(event)
        if event == "open":
            flags = arguments[2]
            place = 0 if isinstance(flags, int) and flags & _WRITES else None
        path = arguments[place] if place is not None else None
        if isinstance(path, int) or path is None:
            return
        text = os.fsdecode(path)  # type: ignore[arg-type]  # a path, as Python tells it
        if not text.startswith(str(self._root)) or _in_fsio():
            return
        self._write(order, f"UNANNOUNCED {event} {shorten(Path(text), self._root)}")

    def _read(self) -> Order | None:
        try:
            found = self._control.stat()
        except FileNotFoundError:
            return None
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp != self._stamp:
            text = self._control.read_text()
            value = json.loads(text) if text else None
            point = value and value["point"] and KillPoint(**value["point"])
            self._order = Order(**(value | {"point": point})) if value else None
            self._stamp, self._count, self._failed = stamp, 0, 0
        return self._order

    def _is_at(self, order: Order, operation: str, name: str) -> bool:
        if self._failed:
            return True
        point = order.point
        if point is None or operation != point.operation:
            return False
        if not re.search(point.pattern, name):
            return False
        self._count = self._count_on() if self._child else self._count + 1
        return self._count == point.count

    def _count_on(self) -> int:
        """Count over all children of an order."""
        path = self._control.with_suffix(f".{self._stamp[0]}")
        with path.open("ab") as file:
            file.write(b".")
            return file.tell()

    def _act(self, order: Order, operation: str) -> None:
        if order.do == "kill":
            if self._child:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        if order.do == "ENOSPC" and operation not in NO_SPACE:
            return  # a full disk can still be tidied
        if self._failed < order.times:
            self._failed += 1
            number = getattr(errno, order.do)
            raise OSError(number, os.strerror(number))

    def _write(self, order: Order, line: str) -> None:
        fd = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"{line}\n".encode())
        os.close(fd)


def _in_fsio() -> bool:
    frame = sys._getframe()
    while frame.f_back:
        frame = frame.f_back
        if frame.f_code.co_filename == fsio.__file__:
            return True
    return False


def watch_over(harness: Harness) -> None:
    """Let `harness` look at this process."""
    harness.begin()
    fsio.watch(harness.look)
    sys.addaudithook(harness.audit)


def run_agent(control: Path, arguments: list[str]) -> int:
    """Run `modelfleet-agent`, with its metadata child in the harness."""
    root = Path(arguments[arguments.index("--dir") + 1])

    def start(module: str, *more: str) -> list[str]:
        if module != CHILD:
            return python_child(module, *more)
        return [sys.executable, "-P", str(HERE), str(control), CHILD, str(root)]

    vars(door)["python_child"] = start
    watch_over(Harness(control, root))
    return main(arguments)


def run_child(control: Path, root: Path) -> None:
    """Run the metadata child."""
    from modelfleet_agent.trust.__main__ import main as refresh  # noqa: PLC0415 - only here

    watch_over(Harness(control, root, child=True))
    refresh()


if __name__ == "__main__":
    if sys.argv[2] == CHILD:
        run_child(Path(sys.argv[1]), Path(sys.argv[3]))
    else:
        sys.exit(run_agent(Path(sys.argv[1]), sys.argv[2:]))
