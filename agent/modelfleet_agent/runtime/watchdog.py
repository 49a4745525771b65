"""Ends runs that take too long: a model that hangs must not hold a worker forever."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnxruntime as ort

from modelfleet_agent.clock import monotonic_s

LOOKS = 4  # per limit: a run ends at most a quarter late


class Watchdog:
    """One thread that looks at all runs. ONNX Runtime stops within milliseconds."""

    def __init__(self, limit_s: float) -> None:
        """Start the thread; runs may take `limit_s` seconds."""
        self.limit_s = limit_s
        self._running: set[tuple[float, Any]] = set()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def watching(self) -> Iterator[Any]:
        """Yield the `RunOptions` of one run, through which it may be ended."""
        options = ort.RunOptions()
        entry = (monotonic_s() + self.limit_s, options)
        self._running.add(entry)
        try:
            yield options
        finally:
            self._running.discard(entry)

    def _watch(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(self.limit_s / LOOKS)
            now = monotonic_s()
            for deadline, options in list(self._running):  # one step under the interpreter
                if deadline < now:
                    options.terminate = True
