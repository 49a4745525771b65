"""Which release each slot runs, and which it ran before: two links per slot.

Only a release that is to be booted belongs here: call `advance` once a trial is passed. A
power cut during a trial then boots what ran before, and a failed trial changes nothing.
"""

from collections.abc import Collection
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.store.record import Record, decode
from modelfleet_agent.store.store import Store
from modelfleet_manifests.names import check_name

CURRENT = "current"
PREVIOUS = "previous"


class Slots:
    """The slots of one store."""

    def __init__(self, store: Store) -> None:
        """Create `slots/` where it is missing."""
        self._store = store
        self.root = fsio.private_dir(store.root / "slots")

    def names(self) -> list[str]:
        """Return the slots that have, or are losing, a release."""
        return sorted(folder.name for folder in self.root.iterdir() if folder.is_dir())

    def current(self, slot: str) -> Record | None:
        """Return what the slot runs, or None.

        Raises:
            RetryableError: `E_RECORD`: its record is damaged or gone.
        """
        return self._read(slot, CURRENT)

    def previous(self, slot: str) -> Record | None:
        """Return what the slot ran before, or None.

        Raises:
            RetryableError: `E_RECORD`: its record is damaged or gone.
        """
        return self._read(slot, PREVIOUS)

    def keys(self, slot: str) -> set[str]:
        """Return the record keys that the slot's links name, damaged or not."""
        links = [self._link(slot, CURRENT), self._link(slot, PREVIOUS)]
        return {link.readlink().stem for link in links if link.is_symlink()}

    def advance(self, slot: str, record: Record) -> None:
        """Make `record` current, and what was current previous. Idempotent.

        `previous` is written first: cut in between, both links name the old release, and
        the call can be repeated.
        """
        path = self._store.put(record)
        current = self._link(slot, CURRENT)
        target = f"../../{path.relative_to(self._store.root)}"
        fsio.private_dir(current.parent)
        if current.is_symlink():
            was = str(current.readlink())
            if was == target:
                return
            fsio.flip_link(self._link(slot, PREVIOUS), was)
        fsio.flip_link(current, target)

    def restore(self, slot: str) -> Record:
        """Make the previous release current; it stays previous, too. Idempotent.

        Raises:
            RetryableError: `E_NO_PREVIOUS`: there is none; `E_RECORD`: it is damaged.
        """
        record = self.previous(slot)
        if record is None:
            raise RetryableError(
                "E_NO_PREVIOUS", f"slot {slot} ran nothing before", slot=slot
            )
        link = self._link(slot, PREVIOUS)
        fsio.flip_link(self._link(slot, CURRENT), str(link.readlink()))
        return record

    def forget_previous(self, slot: str, keys: Collection[str]) -> bool:
        """Let go of the previous release where its key is in `keys`. Idempotent."""
        link = self._link(slot, PREVIOUS)
        if not link.is_symlink() or link.readlink().stem not in keys:
            return False
        fsio.remove(link)
        return True

    def remove(self, slot: str) -> None:
        """Forget the slot; its files are left to `sweep`. Idempotent."""
        fsio.remove(self._link(slot, CURRENT))  # first: it decides what a boot loads
        fsio.remove_tree(self.root / slot)

    def _link(self, slot: str, name: str) -> Path:
        return self.root / check_name(slot, "slot") / name

    def _read(self, slot: str, name: str) -> Record | None:
        link = self._link(slot, name)
        if not link.is_symlink():
            return None
        try:
            return decode(link.read_bytes(), name=link)
        except FileNotFoundError:
            raise RetryableError(
                "E_RECORD",
                f"{link} names a record that is gone",
                hint="it is written again from the signed release",
                path=str(link),
            ) from None
