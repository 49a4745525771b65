"""The supervisor's side of the runtime child."""

import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime.channel import Channel, RuntimeExit
from modelfleet_agent.runtime.messages import (
    Activate,
    Activated,
    Ask,
    Discard,
    Load,
    Loaded,
    Order,
    Ready,
    Restore,
    Statistics,
    Stop,
    Unload,
    Verified,
    Verify,
)
from modelfleet_agent.settings import RuntimeSettings
from modelfleet_agent.store.record import Placed

__all__ = ["RuntimeClient", "RuntimeExit"]

T = TypeVar("T")

SHORT_S = 30.0


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
            on_exit: Called once per child that was started and ends without `stop`, from
                a thread of its own; it may call `start` and `load` again.
        """
        self._settings = settings
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._stopping = False

    @property
    def ready(self) -> Ready | None:
        """The running child's endpoint; None while there is no child."""
        channel = self._channel
        if channel is None or not channel.ready.done() or channel.gone.done():
            return None
        return channel.ready.result()

    def start(self, *, timeout_s: float = SHORT_S) -> Ready:
        """Start a child where none runs, and wait until its endpoint listens.

        Raises:
            RetryableError: `E_RUNTIME_START`.
        """
        with self._lock:
            if self._channel is None or self._channel.gone.done():
                self._channel = Channel(self._settings)
                self._stopping = False
                threading.Thread(
                    target=self._live, args=(self._channel,), name="runtime", daemon=True
                ).start()
            channel = self._channel
        try:
            return channel.ready.result(timeout_s)
        except TimeoutError:
            channel.kill()
            what = f"the runtime's endpoint did not listen within {timeout_s:g} s"
            raise RetryableError("E_RUNTIME_START", what) from None

    def load(self, slot: str, placed: Placed, *, timeout_s: float = 120) -> Loaded:
        """Hash, load and warm a release beside the one that answers now.

        A release that is resident already (the previous one) is only hashed again.

        Raises:
            RefusedError: `E_DIGEST`, `E_LOAD`, `E_WARM`, `E_GOLDEN`.
            RetryableError: `E_MISSING`, `E_RUNTIME_GONE`, `E_RUNTIME_TIMEOUT`.
        """
        order = Load(slot=slot, placed=placed, threads=self._settings.threads_of(slot))
        return self._ask(order, Loaded, timeout_s)

    def activate(self, slot: str, key: str) -> Activated:
        """Move the pointer of `slot` to the loaded release `key`. Idempotent.

        Raises:
            RetryableError: `E_NOT_LOADED`: load it first.
        """
        return self._ask(Activate(slot=slot, key=key), Activated)

    def restore(self, slot: str) -> Activated:
        """Move the pointer of `slot` back to the resident previous release.

        Not idempotent: a second call moves it forth again.

        Raises:
            RetryableError: `E_NOT_LOADED`: none is resident; load it from disk.
        """
        return self._ask(Restore(slot=slot), Activated)

    def discard(self, slot: str, key: str) -> None:
        """Drop a loaded release that is not active. Idempotent."""
        self._ask(Discard(slot=slot, key=key), type(None))

    def unload(self, slot: str, *, drains: bool = False) -> None:
        """Drop everything of `slot`. Idempotent.

        With `drains`, return when its memory is given back, and let requests be answered
        503 until something is activated: something larger is about to be loaded.
        """
        self._ask(Unload(slot=slot, drains=drains), type(None))

    def verify(self, slot: str, *, timeout_s: float = 60) -> Verified:
        """Hash the files of the active release now.

        Raises:
            RetryableError: `E_NOT_LOADED`.
        """
        return self._ask(Verify(slot=slot), Verified, timeout_s)

    def statistics(self) -> Statistics:
        """Return the counters of the running child."""
        return self._ask(Ask(), Statistics)

    def stop(self, *, grace_s: float = 5) -> None:
        """End the child: asked first, killed after `grace_s`. Idempotent."""
        with self._lock:
            channel, self._stopping = self._channel, True
        if channel is None:
            return
        try:
            channel.order(Stop(), grace_s)
            channel.gone.result(grace_s)
        except (RetryableError, TimeoutError):
            channel.kill()
            channel.gone.result()

    def _ask(self, order: Order, kind: type[T], timeout_s: float = SHORT_S) -> T:
        channel = self._channel
        if channel is None:
            raise RetryableError("E_RUNTIME_GONE", "the runtime is not started")
        return msgspec.json.decode(channel.order(order, timeout_s), type=kind)

    def _live(self, channel: Channel) -> None:
        ended = channel.live()
        with self._lock:
            wanted = self._stopping
            if self._channel is channel:
                self._channel = None
        started = channel.ready.exception() is None  # otherwise `start` has raised
        if started and self._on_exit and not wanted:
            self._on_exit(ended)
