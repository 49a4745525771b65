"""The door to the metadata: the supervisor asks here, a limited child does the work."""

import threading
from collections.abc import Collection
from pathlib import Path

from modelfleet_agent.clock import Clock, now_ms
from modelfleet_agent.enrol import Enrolment
from modelfleet_agent.trust.state import TrustState
from modelfleet_manifests.release import ReleaseRef
from modelfleet_manifests.trust import TrustView


class TrustDoor:
    """Verified metadata. `refresh` may run in a thread while others read."""

    def __init__(
        self, directory: Path, enrolment: Enrolment, *, clock: Clock = now_ms
    ) -> None:
        """Read the state that the last refresh left; empty where there is none.

        Args:
            directory: Of the agent.
            enrolment: Fleet, server and token.
            clock: Judges expiry.
        """
        raise NotImplementedError

    def load(self) -> TrustState:
        """Return the current state; costs nothing."""
        raise NotImplementedError

    def refresh(
        self, want: Collection[ReleaseRef], cancel: threading.Event | None = None
    ) -> TrustState:
        """Fetch and verify the metadata, and the statements of the releases in `want`.

        Releases that were listed before are looked up again. A release that is not listed,
        or whose statement is another, is no error: see `TrustState.problems`.

        Args:
            want: Every release that a held document, a slot or the store names.
            cancel: Ends it early.

        Raises:
            RetryableError: Nothing changed, `code` says why: `E_UNREACHABLE`, `E_HTTP`,
                `E_ROLLBACK`, `E_EXPIRED`, `E_THRESHOLD`, `E_MIX`, `E_ENDLESS`,
                `E_METADATA`, `E_CANCELLED`.
        """
        raise NotImplementedError

    def apply_recalls(self, payload: bytes) -> TrustState:
        """Add what a `trust/recalls` message revokes and stops; it never takes away.

        Raises:
            RefusedError: `E_RECALLS`: not signed by the right keys, or not such a message;
                what is valid in it was added all the same.
            RetryableError: The disk is in the way, or no metadata was seen yet.
        """
        raise NotImplementedError

    def view(self, now: int) -> TrustView:
        """Return what the resolver takes; statements are read from disk once."""
        raise NotImplementedError
