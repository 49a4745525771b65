"""Asks what time it is, with a nonce, and verifies the answer; pure."""

from tuf.api.exceptions import DownloadError

from modelfleet_agent.errors import AgentError
from modelfleet_agent.trust.checks import StrictError
from modelfleet_agent.trust.messages import UNTOLD, Answer, Time
from modelfleet_agent.trust.state import Signers
from modelfleet_agent.trust.steps import Walk, elapsed, fetch
from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.timetoken import MAX_BYTES, open_token

NOT_ASKED = Answer(code=UNTOLD, what="nobody was asked for the time")


def ask(role: Signers, fleet: str, nonce: str) -> Walk[Answer]:
    """Return what time it is as `role` tells it, or why nobody does.

    Args:
        role: The verified role `time`.
        fleet: SHA-256 of the first root.
        nonce: 32 hexadecimal digits, random, used once.
    """
    # what is held back counts from here: a late answer never makes anything younger
    at = yield from elapsed()
    try:
        keys = [PublicKey(one) for one in role.keys.values()]
        token = yield from fetch(f"/tuf/time/{nonce}", MAX_BYTES)
        time = open_token(token, keys, role.threshold, fleet=fleet, nonce=nonce)
    except (AgentError, DownloadError, ManifestError, StrictError) as error:
        return Answer(code=UNTOLD, what=f"the time is not told: {error}")
    return Answer(time=Time(time, at))
