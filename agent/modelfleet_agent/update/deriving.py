"""What a release is loaded as: its own file, or one that this device made from it.

TensorRT needs such a file; for the CPU it is the operator's wish (`[runtime] prepare`).
It is made before the self-test, which then judges it, in a child and off the request path.
Where it cannot be made, the release runs without it.
"""

import threading
from collections.abc import Callable

import msgspec

from modelfleet_agent.errors import AgentError, RefusedError
from modelfleet_agent.runtime import derive
from modelfleet_agent.runtime.derivation import wanted_derivation
from modelfleet_agent.store import Placed, Record, Store
from modelfleet_agent.store.derived import Derivation, DerivedFiles
from modelfleet_manifests.profiles import Facts

Notice = Callable[[AgentError], None]


class Deriver:
    """Derived files of one device. Safe in threads that work on different releases."""

    def __init__(
        self,
        store: Store,
        *,
        facts: Callable[[], Facts | None] = lambda: None,
        prepares: bool = False,
    ) -> None:
        """Take what there is.

        Args:
            store: Of the releases.
            facts: What this device is; None while that is not known.
            prepares: Graphs for the CPU are optimised for this processor.
        """
        self._store = store
        self._files = DerivedFiles(store)
        self._facts = facts
        self._prepares = prepares
        self._failed: set[str] = set()  # tried again at the next start

    def place(self, record: Record) -> Placed:
        """Return what is loaded now: with the derived file where there is a fitting one.

        Raises:
            RetryableError: `E_MISSING`: a file of the release is not in the store.
        """
        placed, wanted = self._store.place(record), self._derivation(record)
        found = self._files.find(record, wanted) if wanted else None
        return msgspec.structs.replace(placed, derived=found)

    def is_stale(self, record: Record) -> bool:
        """Say whether the release should have a derived file and has no fitting one."""
        wanted = self._derivation(record)
        if wanted is None or wanted.key in self._failed:
            return False
        return self._files.find(record, wanted) is None

    def prepare(
        self, record: Record, notice: Notice, cancel: threading.Event | None = None
    ) -> Placed:
        """Return what is to be loaded, once its derived file is made where it wants one.

        Raises:
            RetryableError: `E_CANCELLED`, `E_MISSING`, `E_SPAWN`, or one of the disk.
        """
        placed, wanted = self._store.place(record), self._derivation(record)
        if wanted is None or wanted.key in self._failed:
            return placed
        found = self._files.find(record, wanted)
        if found is None or not self._files.is_sound(found):
            output = self._files.begin(record)
            try:
                derive.run(placed, wanted.provider, output, cancel=cancel)
            except RefusedError as error:
                self._failed.add(wanted.key)
                self._files.drop(record)
                notice(error)
                return placed
            found = self._files.adopt(record, wanted, output)
        return msgspec.structs.replace(placed, derived=found)

    def drop(self, record: Record) -> None:
        """Remove what was derived: it does not load. Raises `RetryableError`."""
        self._files.drop(record)

    def _derivation(self, record: Record) -> Derivation | None:
        return wanted_derivation(record, self._facts(), prepares=self._prepares)
