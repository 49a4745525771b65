"""FETCH and PATCH: bring every file of a release into the store, in as few bytes as may be.

What the server offers is unsigned: the result of a patch counts only where it is the signed
file, and a patch that fails costs one full download, never a wrong model.
"""

import logging

from modelfleet_agent import fsio
from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.link.fetch import DeltaOffer, Fetcher
from modelfleet_agent.runtime import patch as patching
from modelfleet_agent.store import FileEntry, Record
from modelfleet_agent.update.work import FallBackError, Patch, Work

log = logging.getLogger(__name__)

MAX_BASES = 4
MIB = 1 << 20


def fetch(work: Work) -> None:
    """Bring the missing files, or patches that make them, to the device.

    Raises:
        RetryableError: The world was in the way; what came is kept and goes on later.
        RefusedError: The server has other bytes than were signed.
    """
    store = work.tools.store
    if work.goal.repair:
        discard_altered(work)
    work.note(patches=())
    fetcher = work.tools.fetcher()
    try:
        for file in store.missing(work.record):
            work.check_cancelled()
            _fetch_one(work, fetcher, file)
    finally:
        fetcher.close()


def discard_altered(work: Work) -> int:
    """Remove files of the release that are not what was signed; return how many."""
    store, altered = work.tools.store, 0
    for file in work.record.wanted:
        work.check_cancelled()
        if not store.verify(file.digest):
            altered += 1
            store.discard(file.digest)
    return altered


def _fetch_one(work: Work, fetcher: Fetcher, file: FileEntry) -> None:
    choice = None if work.entry.full else _find_patch(work, fetcher, file)
    work.check_cancelled()
    if choice is None:
        _count(work, file.length, "full", fetcher, file)
        return
    offer, base = choice
    patch = Patch(
        target=file.digest,
        length=file.length,
        base=base,
        blob=offer.blob,
        size=offer.length,
        method=offer.method,
        memory=offer.memory,
    )
    got = fetcher.fetch_patch(offer, cancel=work.cancel)
    work.note(patches=(*work.entry.patches, patch), bytes=work.entry.bytes + got.received)


def _count(work: Work, length: int, method: str, fetcher: Fetcher, file: FileEntry) -> None:
    received = 0
    try:
        received = fetcher.fetch_file(file.digest, length, cancel=work.cancel).received
    except RetryableError as error:
        came = error.data.get("received", 0)
        received = came if isinstance(came, int) else 0
        raise
    finally:
        # golden inputs always come whole: they do not make an update by delta a full one
        is_model = file in work.record.files
        work.note(
            bytes=work.entry.bytes + received,
            method=method if is_model else work.entry.method,
        )


def _find_patch(
    work: Work, fetcher: Fetcher, file: FileEntry
) -> tuple[DeltaOffer, str] | None:
    """Return the smallest offer that is smaller than what is left of the whole file."""
    if file not in work.record.files:
        return None
    partial = work.tools.store.incoming(file.digest)
    left = file.length - (partial.stat().st_size if partial.exists() else 0)
    offers = []
    for base in _bases(work, file):
        work.check_cancelled()
        try:
            offer = fetcher.get_delta_offer(file.digest, base)
        except RetryableError as error:
            log.info("%s: no delta for %s: %s", work.slot, file.name, error)
            return None  # the whole file may come from elsewhere; it says what is wrong
        if offer and offer.length < left and _fits(offer, file):
            offers.append((offer, base))
    return min(offers, key=lambda pair: pair[0].length, default=None)


def _fits(offer: DeltaOffer, file: FileEntry) -> bool:
    return offer.memory <= 256 * MIB + 3 * file.length  # what a patch child may take


def _bases(work: Work, file: FileEntry) -> list[str]:
    """Return digests of resident files to ask deltas for, the likeliest first."""
    files = [entry for record in resident(work) for entry in record.files]
    named = [entry for entry in files if entry.name == file.name]
    others = [entry for entry in files if entry.name != file.name]
    here = [entry.digest for entry in (*named, *others) if work.tools.store.has(entry)]
    return list(dict.fromkeys(here))[:MAX_BASES]


def resident(work: Work) -> list[Record]:
    """Return what the slot runs and ran before, as far as their records are sound."""
    found = []
    for read in (work.tools.slots.current, work.tools.slots.previous):
        try:
            record = read(work.slot)
        except RetryableError as error:
            log.warning("%s: %s", work.slot, error)
            continue
        if record:
            found.append(record)
    return found


def patch(work: Work) -> None:
    """Apply the patches that were fetched; the signed digest judges each result.

    Raises:
        FallBackError: A patch did not give the signed file: fetch it in full.
        RetryableError: The disk is in the way, or `E_CANCELLED`.
    """
    for one in work.entry.patches:
        work.check_cancelled()
        if not work.tools.store.has(one.file):  # a cut-short file is not there
            _apply(work, one)
        fsio.remove(work.tools.store.incoming(one.blob))
        work.note(method="delta")


def _apply(work: Work, one: Patch) -> None:
    store = work.tools.store
    # a name of its own: a whole download that was cut would go on from a patch's output
    output = store.partials / f"{fsio.TMP}{one.target}"
    fsio.require_space(store.partials, one.length, reserve=work.tools.reserve)
    _ensure_blob(work, one)
    try:
        patching.run(
            store.path_of(one.base),
            store.incoming(one.blob),
            output,
            digest=one.target,
            length=one.length,
            cancel=work.cancel,
        )
        store.adopt(one.target, one.length, output)
    except RefusedError as error:
        fsio.remove(store.incoming(one.blob))
        work.note(full=True, patches=())
        raise FallBackError(
            "E_DELTA",
            f"the delta by {one.method} failed ({error.code}: {error.what}); "
            "fetching the whole file",
            base=one.base,
            blob=one.blob,
        ) from error


def _ensure_blob(work: Work, one: Patch) -> None:
    """Fetch the patch again where it is not there; it is, unless the disk lost it."""
    if work.tools.store.incoming(one.blob).exists():
        return
    fetcher = work.tools.fetcher()
    offer = DeltaOffer(blob=one.blob, length=one.size, method=one.method, memory=one.memory)
    try:
        got = fetcher.fetch_patch(offer, cancel=work.cancel)
        work.note(bytes=work.entry.bytes + got.received)
    finally:
        fetcher.close()
