"""A broker that somebody else runs."""

import threading
import time

from modelfleet_server.broker.address import Address
from modelfleet_server.broker.probe import SilentError, ask
from modelfleet_server.kit.errors import UnavailableError

_PAUSE_S = 0.2


class OutsideBroker:
    """Nothing to start and nothing to stop; `start` only makes sure that it answers."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._leaving = threading.Event()

    @property
    def alive(self) -> bool:
        """Whether it answers now; asks it, for at most a second."""
        try:
            ask(self.address, timeout_s=1)
        except SilentError:
            return False
        return True

    def start(self, timeout_s: float = 5) -> Address:
        """Wait until it answers.

        Raises:
            UnavailableError: It did not within `timeout_s` seconds.
        """
        end = time.monotonic() + timeout_s
        while True:
            try:
                ask(self.address, timeout_s=max(0.1, end - time.monotonic()))
            except SilentError as error:
                if time.monotonic() + _PAUSE_S > end or self._leaving.wait(_PAUSE_S):
                    raise UnavailableError(
                        f"broker {self.address} cannot be used: {error}",
                        "Start it, or correct the broker's address in the settings.",
                        address=str(self.address),
                    ) from error
            else:
                return self.address

    def stop(self) -> None:
        """End a `start` that still waits; the broker itself is not ours to stop."""
        self._leaving.set()
