"""The supervisor's side of the runtime child."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from modelfleet_agent.runtime.messages import (
    Activated,
    Loaded,
    Ready,
    Statistics,
    Verified,
)
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store.record import Placed

T = TypeVar("T")


@dataclass(frozen=True)
class RuntimeExit:
    """The child is gone without being asked to.

    Attributes:
        pid: Which child.
        reason: In words: `killed by signal 11 (SIGSEGV)`, `exit code 1`.
        code: Exit code as `subprocess` gives it: negative for signals.
        stderr: The last lines that it wrote.
    """

    pid: int
    reason: str
    code: int
    stderr: str


class RuntimeClient:
    """Starts one runtime child and gives it orders; safe to use from several threads.

    Every order raises `RefusedError` where the release is bad, and `RetryableError`
    (`E_RUNTIME_GONE`, `E_RUNTIME_TIMEOUT`) where the child is. A child that does not
    answer in time is killed, which is reported through `on_exit` as any other death.
    """

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        on_exit: Callable[[RuntimeExit], None] | None = None,
    ) -> None:
        """Take the settings; nothing is started.

        Args:
            settings: Of the child and its endpoint.
            on_exit: Called once per child that ends without `stop`, from the client's own
                thread; it may call `start` and `load` again.
        """
        raise NotImplementedError

    @property
    def ready(self) -> Ready | None:
        """The running child's endpoint; None while there is no child."""
        raise NotImplementedError

    def start(self, *, timeout_s: float = 30) -> Ready:
        """Start a child where none runs, and wait until its endpoint listens.

        Raises:
            RetryableError: `E_RUNTIME_START`.
        """
        raise NotImplementedError

    def load(self, slot: str, placed: Placed, *, timeout_s: float = 120) -> Loaded:
        """Hash, load and warm a release beside the one that answers now.

        A release that is resident already (the previous one) is only hashed again.

        Raises:
            RefusedError: `E_DIGEST`, `E_LOAD`, `E_WARM`.
            RetryableError: `E_MISSING`, `E_RUNTIME_GONE`, `E_RUNTIME_TIMEOUT`.
        """
        raise NotImplementedError

    def activate(self, slot: str, key: str) -> Activated:
        """Move the pointer of `slot` to the loaded release `key`. Idempotent.

        Raises:
            RetryableError: `E_NOT_LOADED`: load it first.
        """
        raise NotImplementedError

    def restore(self, slot: str) -> Activated:
        """Move the pointer of `slot` back to the resident previous release.

        Raises:
            RetryableError: `E_NOT_LOADED`: none is resident; load it from disk.
        """
        raise NotImplementedError

    def discard(self, slot: str, key: str) -> None:
        """Drop a loaded release that will not become active. Idempotent."""
        raise NotImplementedError

    def unload(self, slot: str) -> None:
        """Drop everything of `slot`. Idempotent."""
        raise NotImplementedError

    def verify(self, slot: str, *, timeout_s: float = 60) -> Verified:
        """Hash the files of the active release now.

        Raises:
            RetryableError: `E_NOT_LOADED`.
        """
        raise NotImplementedError

    def statistics(self) -> Statistics:
        """Return the counters of the running child."""
        raise NotImplementedError

    def stop(self, *, grace_s: float = 5) -> None:
        """End the child: asked first, killed after `grace_s`. Idempotent."""
        raise NotImplementedError
