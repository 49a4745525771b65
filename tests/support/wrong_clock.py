"""`python tests/support/wrong_clock.py OFFSET_MS ARGUMENT…`: an agent whose clock is wrong.

Runs `modelfleet-agent` with the arguments; the wall clock of its process is off by so much.
"""

import sys
import time
from pathlib import Path

HERE = Path(__file__)


def command(offset_ms: int) -> list[str]:
    """Return what to run in place of `python -m modelfleet_agent`."""
    return [sys.executable, str(HERE), str(offset_ms)]


if __name__ == "__main__":
    offset = int(sys.argv[1])
    honest = time.time_ns
    time.time_ns = lambda: honest() + offset * 1_000_000
    time.time = lambda: time.time_ns() / 1e9
    from modelfleet_agent.cli import main

    sys.exit(main(sys.argv[2:]))
