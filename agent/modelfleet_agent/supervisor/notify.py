"""What systemd is told: ready, alive, stopping. Nothing where it did not start us."""

import logging
import os
import socket

from modelfleet_agent.clock import monotonic_s

log = logging.getLogger(__name__)

US = 1_000_000


class Notifier:
    """Speaks the protocol of sd_notify(3). Used by the supervisor's thread.

    A supervisor that hangs stops saying that it is alive, and systemd starts it again.
    """

    def __init__(self) -> None:
        """Read the address and the watchdog's time from the environment."""
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        mine = os.environ.get("WATCHDOG_PID", "") in {"", str(os.getpid())}
        limit_us = int(os.environ.get("WATCHDOG_USEC") or 0) if mine else 0
        self._every_s = limit_us / US / 4
        self._at = 0.0

    def ready(self) -> None:
        """What is on disk serves."""
        self._send("READY=1\nSTATUS=serving what is on disk")

    def look(self) -> None:
        """Say that we are alive, where it is time."""
        if self._every_s and monotonic_s() >= self._at:
            self._at = monotonic_s() + self._every_s
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """We were asked to end."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # a leading @ stands for the abstract name space
        address = self._address.replace("@", "\0", 1)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
                one.connect(address)
                one.sendall(text.encode())
        except OSError as error:
            log.warning("MF_SYSTEMD it cannot be told: %s", error)
