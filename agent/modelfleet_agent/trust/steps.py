"""What the core asks of whoever drives it: the only ways in which it meets the world; pure.

A *walk* is a generator. It yields a step, is sent the reply or thrown the error, and ends
with its result. Nothing in a walk opens a file, a connection or a clock: the same replies
always give the same steps and the same result, and a walk may be dropped after any step.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from tuf.api.exceptions import DownloadLengthMismatchError

from modelfleet_agent.trust.checks import check_json


@dataclass(frozen=True, slots=True)
class Read:
    """Replied with the bytes at `path` below the agent's directory, or with None."""

    path: str


@dataclass(frozen=True, slots=True)
class Write:
    """Replied with None once `data` replaced what was at `path`, whole or not at all.

    Attributes:
        path: Below the agent's directory.
        data: What is there from now on.
        durable: It outlasts a power cut. What is only kept to save a request need not.
    """

    path: str
    data: bytes
    durable: bool


@dataclass(frozen=True, slots=True)
class Fetch:
    """Replied with what the server has at `path`, as it came.

    Attributes:
        path: Below the server's base.
        limit: In bytes; whoever fetches stops when there is more.

    Thrown:
        DownloadError: There is nothing to be had, or more than `limit`.
        AgentError: The server cannot be reached, or the answer broke off.
    """

    path: str
    limit: int


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Replied with the ms since the device booted."""


Step = Read | Write | Fetch | Elapsed
T = TypeVar("T")
Walk = Generator[Step, Any, T]


def read(path: str) -> Walk[bytes | None]:
    """Return the bytes at `path`; None where there are none."""
    data: bytes | None = yield Read(path)
    return data


def fetch(path: str, limit: int) -> Walk[bytes]:
    """Return what the server has at `path`: strict JSON of at most `limit` bytes.

    Raises:
        DownloadError, AgentError: It cannot be had.
        DownloadLengthMismatchError: It is longer.
        StrictError: It is not the JSON that metadata may be.
    """
    data: bytes = yield Fetch(path, limit)
    if len(data) > limit:
        raise DownloadLengthMismatchError(f"{path} has more than {limit} bytes")
    check_json(data, path.rpartition("/")[2])
    return data


def elapsed() -> Walk[int]:
    """Return the ms since the device booted."""
    time: int = yield Elapsed()
    return time
