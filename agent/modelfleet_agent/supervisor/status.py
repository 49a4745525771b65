"""What `modelfleet-agent status` reads: a file that the supervisor rewrites on change."""

import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import UsageError

STATUS = "agent.json"
ENDPOINT = "endpoint.json"
LOCK = "lock"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where applications ask for inferences (`endpoint.json`).

    Attributes:
        http_port: Loopback TCP port, or None.
        socket: Path of the Unix socket, or None.
    """

    http_port: int | None = None
    socket: str | None = None


class SlotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One slot, for a person in front of the device.

    Attributes:
        state: `ok`, `waiting`, `updating`, `failed` or `empty`.
        phase: Of the update.
        action: What the documents want: keep, install, remove, stop.
        reason: Why, or the last failure's code as a word.
        detail: In words.
        model: What serves, "" where nothing does.
        version: Its version.
        release: Its id.
        variant: Its variant.
        digest: Of its files, as read last.
        intact: They are what was signed.
        wanted: Id of the release that is wanted, "" where none is.
        failures: How often the wanted release failed here.
    """

    state: str
    phase: str
    action: str
    reason: str
    detail: str
    model: str = ""
    version: str = ""
    release: str = ""
    variant: str = ""
    digest: str = ""
    intact: bool = True
    wanted: str = ""
    failures: int = 0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole agent (`agent.json`).

    Attributes:
        device: Its id.
        fleet: SHA-256 of the fleet's first root.
        server: Base URL.
        pid: Of the supervisor that wrote this.
        at: When, Unix ms of the device's clock.
        connected: The broker is heard.
        profile: The most specific one that the device fits; "" until that is known.
        endpoint: Of the runtime child.
        slots: By name.
    """

    device: str
    fleet: str
    server: str
    pid: int
    at: int
    connected: bool
    profile: str = ""
    endpoint: Endpoint
    slots: dict[str, SlotStatus]


def encode_status(status: Status) -> bytes:
    """Return the status as JSON."""
    return msgspec.json.encode(status)


def write_status(directory: Path, status: Status) -> None:
    """Replace the status file. Raises `RetryableError` where the disk is in the way."""
    fsio.write_atomic(directory / STATUS, encode_status(status))


def read_status(directory: Path) -> Status | None:
    """Return what the supervisor wrote last, or None where nothing readable is there."""
    try:
        return msgspec.json.decode((directory / STATUS).read_bytes(), type=Status)
    except (FileNotFoundError, ValueError):
        return None  # never run, or torn by a power cut: the next run writes it again


def write_endpoint(directory: Path, endpoint: Endpoint) -> None:
    """Tell applications where to ask. Raises as `write_status`."""
    fsio.write_atomic(directory / ENDPOINT, msgspec.json.encode(endpoint), mode=0o644)


def read_endpoint(directory: Path) -> Endpoint | None:
    """Return the endpoint of the last run, or None."""
    try:
        return msgspec.json.decode((directory / ENDPOINT).read_bytes(), type=Endpoint)
    except (FileNotFoundError, ValueError):
        return None


def lock(directory: Path) -> IO[bytes]:
    """Return the lock of a directory; it is held until the file is closed.

    Raises:
        UsageError: `E_RUNNING`: another agent runs in this directory.
    """
    if not (directory / LOCK).exists():
        fsio.Appender(directory / LOCK).close()
    file = (directory / LOCK).open("rb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UsageError(
            "E_RUNNING",
            f"an agent runs in {directory} already",
            hint="stop it, or give another --dir",
        ) from None
    return file


def is_running(directory: Path) -> bool:
    """Say whether a supervisor holds the lock of `directory`."""
    try:
        fd = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
