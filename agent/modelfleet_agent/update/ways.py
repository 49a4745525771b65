"""Which way a file comes: by a delta from what is here, packed, or as it is.

The fewest bytes win among what memory and disk allow. After a delta that was of no use the
whole file is a fallback, and that takes the operator's word (`policy.Fallback`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.link.fetch import DeltaOffer, Fetcher
from modelfleet_agent.runtime.patch import most_memory
from modelfleet_agent.store import FileEntry, Record
from modelfleet_agent.update.policy import Fallback, may_fall_back
from modelfleet_agent.update.work import Work
from modelfleet_manifests.digests import EMPTY

MAX_BASES = 4
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Way:
    """A patch that makes a file.

    Attributes:
        offer: The server's.
        base: What it is made from; `EMPTY` where the file is packed in the patch.
        left: Bytes of it that are still to be fetched.
    """

    offer: DeltaOffer
    base: str
    left: int


def choose(work: Work, fetcher: Fetcher, file: FileEntry) -> Way | None:
    """Return the way that takes the fewest bytes from here; None for the file as it is.

    Raises:
        RetryableError: The server cannot be asked; or `E_FULL_FORBIDDEN`: the whole file
            would follow a delta that was of no use, and may not.
    """
    is_model = file in work.record.files
    usable = _find_deltas(work, fetcher, file) if is_model else []
    if usable and work.entry.full:  # the whole file may not follow: another delta may
        return usable[0]
    packed = _ask(work, fetcher, file, (EMPTY,))
    usable += [way for way in packed if not _objection(work, way, file)]
    best = min(usable, key=lambda way: way.left, default=None)
    whole = file.length - _held(work, file.digest)
    return best if best and best.left < whole else None


def _find_deltas(work: Work, fetcher: Fetcher, file: FileEntry) -> list[Way]:
    """Return the deltas that may be taken; none where the whole file may follow a bad one.

    Raises:
        RetryableError: As `choose`.
    """
    if work.entry.full and _may_fall_back(work):
        return []  # one clear failure is enough
    ways = _ask(work, fetcher, file, _bases(work, file))
    usable = [way for way in ways if not _objection(work, way, file)]
    if ways and not usable:
        refuse(work, ways[0].offer.blob, _objection(work, ways[0], file))
    if work.entry.full and not usable and not _may_fall_back(work):
        raise _forbidden(work, file)
    return usable


def refuse(work: Work, blob: str, why: str) -> None:
    """Note that a delta is of no use, and tell of it once."""
    if blob in work.entry.bad:
        return
    work.note(full=True, fell_back=why, bad=(*work.entry.bad, blob))
    work.tools.notice(work.slot, RetryableError("E_DELTA", why))


def _may_fall_back(work: Work) -> bool:
    policy = work.tools.fallback
    # whether it is metered is a question to the system: not asked where nothing hangs on it
    unmetered = policy is Fallback.WIFI and work.tools.unmetered()
    return may_fall_back(policy, unmetered=unmetered)


def _forbidden(work: Work, file: FileEntry) -> RetryableError:
    policy = work.tools.fallback
    where = "only over an unmetered interface" if policy is Fallback.WIFI else "never"
    return RetryableError(
        "E_FULL_FORBIDDEN",
        f"the whole file may be fetched {where} ({file.length:,} bytes); "
        f"{work.entry.fell_back}",
        hint="connect it to an unmetered network, offer another delta, or change "
        "`link.fallback` in agent.toml",
        policy=policy.value,
    )


def _ask(work: Work, fetcher: Fetcher, file: FileEntry, bases: Iterable[str]) -> list[Way]:
    """Return the offers that are smaller than the file, the fewest bytes first."""
    ways = []
    for base in bases:
        work.check_cancelled()
        offer = fetcher.get_delta_offer(file.digest, base)
        if offer and offer.length < file.length:
            left = offer.length - _held(work, offer.blob)
            ways.append(Way(offer, base, left))
    return sorted(ways, key=lambda way: way.left)


def _held(work: Work, digest: str) -> int:
    """Return how many bytes of a download are here already."""
    partial = work.tools.store.incoming(digest)
    return partial.stat().st_size if partial.exists() else 0


def _objection(work: Work, way: Way, file: FileEntry) -> str:
    """Return why a patch cannot be taken here, "" where it can."""
    offer, store = way.offer, work.tools.store
    if offer.blob in work.entry.bad:
        return work.entry.fell_back or "it failed before"
    most = min(most_memory(file.length), work.tools.memory())
    if offer.memory > most:
        need, free = offer.memory // MIB, most // MIB
        return f"the delta needs {need} MiB of memory, {free} MiB may be taken"
    need = way.left + file.length + work.tools.reserve
    free = fsio.free_bytes(store.partials)
    if need > free >= file.length + work.tools.reserve:
        return f"the delta needs {need:,} bytes of disk, {free:,} are free"
    return ""


def _bases(work: Work, file: FileEntry) -> list[str]:
    """Return digests of resident files to ask deltas for, the likeliest first."""
    files = [entry for record in resident(work) for entry in record.files]
    named = [entry for entry in files if entry.name == file.name]
    others = [entry for entry in files if entry.name != file.name]
    here = [entry.digest for entry in (*named, *others) if work.tools.store.has(entry)]
    return list(dict.fromkeys(one for one in here if one != file.digest))[:MAX_BASES]


def resident(work: Work) -> list[Record]:
    """Return what the slot runs and ran before, as far as their records are sound."""
    found = []
    for read in (work.tools.slots.current, work.tools.slots.previous):
        try:
            record = read(work.slot)
        except RetryableError as error:
            work.tools.notice(work.slot, error)
            continue
        if record:
            found.append(record)
    return found
