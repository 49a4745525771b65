"""Asks what time it is, with a nonce, and verifies the answer. Runs in the child."""

from tuf.api.exceptions import DownloadError

from modelfleet_agent.clock import Clock
from modelfleet_agent.errors import AgentError
from modelfleet_agent.trust.checks import StrictError
from modelfleet_agent.trust.client import Client
from modelfleet_agent.trust.messages import UNTOLD, Answer, Time
from modelfleet_agent.trust.state import Signers
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.timetoken import open_token


class Question:
    """One question; `answer` holds what became of it."""

    def __init__(self, client: Client, fleet: str, nonce: str, rising: Clock) -> None:
        """Nothing is asked yet.

        Args:
            client: Fetches.
            fleet: SHA-256 of the first root.
            nonce: 32 hexadecimal digits, random, used once.
            rising: Ms since the device booted.
        """
        self._client = client
        self._fleet = fleet
        self._nonce = nonce
        self._rising = rising
        self.answer = Answer(code=UNTOLD, what="nobody was asked for the time")

    def ask(self, role: Signers) -> int:
        """Return the time, Unix ms, as `role` tells it; 0 where nobody does."""
        # what is held back counts from here: a late answer never makes anything younger
        at = self._rising()
        try:
            keys = [PublicKey(one) for one in role.keys.values()]
            time = open_token(
                self._client.fetch_time(self._nonce),
                keys,
                role.threshold,
                fleet=self._fleet,
                nonce=self._nonce,
            )
        except (AgentError, DownloadError, ManifestError, StrictError) as error:
            self.answer = Answer(code=UNTOLD, what=f"the time is not told: {error}")
            return 0
        self.answer = Answer(time=Time(time, at))
        return time
