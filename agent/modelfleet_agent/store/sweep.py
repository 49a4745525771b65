"""Remove what no slot needs, within a disk budget; what a slot names is never removed."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.store.record import Record
from modelfleet_agent.store.slots import Slots
from modelfleet_agent.store.store import Store


@dataclass(frozen=True)
class Swept:
    """What a sweep did.

    Attributes:
        removed: Number of files removed, partial downloads included.
        freed: Their bytes.
        kept: Bytes that stay in the store.
    """

    removed: int
    freed: int
    kept: int


def sweep(
    store: Store,
    slots: Slots,
    *,
    budget: int,
    keep: Iterable[Record] = (),
    busy: Collection[str] = (),
) -> Swept:
    """Remove files and records that are not kept. Idempotent, may be cut anywhere.

    Args:
        store: Where the files are.
        slots: Their current and previous releases always stay, whatever the budget.
        budget: Bytes that the store may take; `keep` is cut to it.
        keep: Releases worth keeping, the most important first.
        busy: Digests that an update is working on: they, their partial downloads and
            releases that are made of them stay.
    """
    records = {record.key: record for record in store.records()}
    held = {key for slot in slots.names() for key in slots.keys(slot)}
    held |= {key for key, record in records.items() if _is_busy(record, busy)}
    if held - records.keys():  # a damaged record: which files it needs is not known
        return Swept(removed=0, freed=0, kept=_weigh(store.files.iterdir()))
    sizes = {digest: size for key in held for digest, size in _sizes(records[key])}
    for record in keep:
        more = sizes | dict(_sizes(record))
        if sum(more.values()) <= budget:
            sizes = more
            held.add(record.key)
    doomed = [path for path in store.files.iterdir() if path.name not in {*sizes, *busy}]
    doomed += [path for path in store.partials.iterdir() if _digest(path) not in busy]
    freed = _weigh(doomed)
    _sweep_records(store, held)  # before the files: a record never names a missing file
    for path in doomed:
        fsio.remove(path)
    return Swept(removed=len(doomed), freed=freed, kept=_weigh(store.files.iterdir()))


def _is_busy(record: Record, busy: Collection[str]) -> bool:
    return any(entry.digest in busy for entry in record.files)


def _digest(partial: Path) -> str:
    return partial.name.removeprefix(fsio.TMP)


def _sizes(record: Record) -> Iterable[tuple[str, int]]:
    return ((entry.digest, entry.length) for entry in record.wanted)


def _weigh(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _sweep_records(store: Store, held: Collection[str]) -> None:
    for path in list(store.releases.iterdir()):
        if path.is_dir() and path.name not in held:
            fsio.remove_tree(path)
        elif path.suffix == ".json" and path.stem not in held:
            fsio.remove(path)
