"""Whether this version of the agent has proven itself on this device.

The package's `launch` gives a version that is new here three starts. What counts as proof
is what cannot be had without a working agent: every slot serves what it is to serve, and
the server has acknowledged a report that this process sent.
"""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import AgentError

log = logging.getLogger(__name__)

FOLDER = "upgrade"
PROVEN = "proven"
DEADLINE_S = 900.0
"""A version that has not proven itself by then ends, and `launch` counts it as a try."""


class Proof:
    """Of one start; used by the supervisor's thread.

    An agent that was not started by `launch` has nothing to prove, and one that has no
    version before it has no deadline.
    """

    def __init__(
        self,
        directory: Path,
        serves: Callable[[], bool],
        complain: Callable[[str, str], None],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Read which version this is, and tell of one that failed before it.

        Args:
            directory: The agent's.
            serves: Says whether every slot serves what it is to serve.
            complain: Takes a code and words for the next report.
            environment: As `launch` made it.
        """
        self._path = directory / FOLDER / PROVEN
        self._serves = serves
        self._complain = complain
        self._version = environment.get("MODELFLEET_AGENT_PACKAGE", "")
        on_trial = bool(environment.get("MODELFLEET_AGENT_ON_TRIAL"))
        self._until = monotonic_s() + (DEADLINE_S if on_trial else float("inf"))
        self._is_heard = False
        failed = environment.get("MODELFLEET_AGENT_FAILED_UPGRADE", "")
        # the one that was kept has proven itself when it was new
        self._is_open = bool(self._version) and not failed and self._read() != self._version
        if failed:
            why = f"agent {failed} did not prove itself here; {self._version} runs again"
            complain("E_UPGRADE", why)

    def heard(self) -> None:
        """The server acknowledged a report."""
        self._is_heard = True

    def look(self) -> bool:
        """Write the proof where there is one; False where the time for it is over."""
        if not self._is_open:
            return True
        if self._is_heard and self._serves():
            self._prove()
            return True
        if monotonic_s() < self._until:
            return True
        log.error("MF_UPGRADE %s has not proven itself: it ends", self._version)
        return False

    def _prove(self) -> None:
        try:
            fsio.private_dir(self._path.parent)
            fsio.write_atomic(self._path, f"{self._version}\n".encode())
        except AgentError as error:
            self._complain(error.code, error.what)
            self._until = monotonic_s() + DEADLINE_S  # the disk's fault, not the version's
        else:
            log.info("MF_UPGRADE %s has proven itself", self._version)
            self._is_open = False

    def _read(self) -> str:
        try:
            return self._path.read_text().strip()
        except OSError:
            return ""  # nothing has proven itself here yet
