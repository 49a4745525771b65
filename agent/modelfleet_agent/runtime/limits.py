"""Throw-away children under limits: self-tests, patches, metadata.

No `preexec_fn`: the supervisor has threads. A tiny launcher (`launcher.py`, no imports of
this package) sets the limits in the child and then becomes the wanted program.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


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
class Limits:
    """What a child may use; None leaves a limit open.

    Attributes:
        wall_s: Seconds until it is killed.
        cpu_s: Seconds of CPU time.
        memory_mb: Address space, MiB.
        file_mb: Largest file that it may write, MiB.
        files: Open files.
        output_kb: Bytes that it may write to standard output, KiB.
        nice: Niceness.
    """

    wall_s: float = 60
    cpu_s: int | None = None
    memory_mb: int | None = None
    file_mb: int | None = 1
    files: int | None = 64
    output_kb: int = 1024
    nice: int = 10


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


def run_limited(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    limits: Limits,
    cancel: threading.Event | None = None,
) -> Outcome:
    """Run `argv` to its end, never longer than `limits.wall_s`.

    The child is its own process group, dies with the calling thread, gets no open file but
    its standard ones and a bare environment. Use `python_child` for modules of this agent.

    Raises:
        RetryableError: `E_SPAWN`: it could not be started.
    """
    raise NotImplementedError
