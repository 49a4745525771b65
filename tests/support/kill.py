"""The kill harness: a real agent that dies with -9 just before a named change of the disk.

`python tests/support/kill.py OPERATION PATTERN COUNT ARGUMENT…` runs `modelfleet-agent`
with the arguments, and kills the process before the COUNT-th OPERATION (see `fsio`) on a
path that PATTERN, a regular expression, matches.
"""

import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.cli import main

HERE = Path(__file__)


@dataclass(frozen=True)
class KillPoint:
    """Where the agent dies."""

    operation: str
    pattern: str
    count: int = 1

    def command(self) -> list[str]:
        """Return what to run in place of `python -m modelfleet_agent`."""
        return [sys.executable, str(HERE), self.operation, self.pattern, str(self.count)]

    def __str__(self) -> str:
        return f"{self.count}. {self.operation} of {self.pattern}"


def arm(point: KillPoint) -> None:
    """Have this process die at `point`."""
    pattern, left = re.compile(point.pattern), [point.count]

    def look(operation: str, path: Path) -> None:
        if operation == point.operation and pattern.search(str(path)):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    fsio.watch(look)


if __name__ == "__main__":
    arm(KillPoint(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    sys.exit(main(sys.argv[4:]))
