"""Ports of the loopback address."""

import socket
from pathlib import Path

from modelfleet_server.broker.address import LOOPBACK


def free_port() -> int:
    """Return a port that nobody listens on at this moment; it may be taken at the next."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Return whether a broker could listen on `port` of the loopback address."""
    with socket.socket() as probe:
        # like the brokers do: connections of the child before may still be in TIME_WAIT
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def read_port(path: Path) -> int | None:
    """Return the port noted in the file, None without a file or a usable number."""
    try:
        port = int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return port if 0 < port < 2**16 else None
