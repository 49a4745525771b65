"""FETCH and PATCH: bring every file of a release into the store, in as few bytes as may be.

What the server offers is unsigned: the result of a patch counts only where it is the signed
file, and a patch that fails costs bytes, never a wrong model.
"""

import os
from pathlib import Path

from modelfleet_agent import fsio
from modelfleet_agent.errors import AgentError, RefusedError, RetryableError
from modelfleet_agent.link.fetch import DeltaOffer, Fetcher
from modelfleet_agent.link.partial import Progress
from modelfleet_agent.runtime.patch import Patching, Spec
from modelfleet_agent.store import FileEntry
from modelfleet_agent.update.ways import Way, choose, refuse
from modelfleet_agent.update.work import FallBackError, Patch, Work
from modelfleet_manifests.digests import EMPTY


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
    way = choose(work, fetcher, file)
    while way and not _fetch_patch(work, fetcher, file, way):
        way = choose(work, fetcher, file)
    work.check_cancelled()
    if way is None:
        _fetch_whole(work, fetcher, file)


def _fetch_patch(work: Work, fetcher: Fetcher, file: FileEntry, way: Way) -> bool:
    """Fetch a patch; False where the server does not have what it offers."""
    offer = way.offer
    patch = Patch(
        target=file.digest,
        length=file.length,
        base=way.base,
        blob=offer.blob,
        size=offer.length,
        method=offer.method,
        memory=offer.memory,
    )
    try:
        got = fetcher.fetch_patch(offer, cancel=work.cancel, progress=_follow(work, patch))
    except AgentError as error:
        work.ahead.drop()
        _add_bytes(work, error.data.get("received", 0))
        if isinstance(error, RetryableError) and error.code != "E_NOT_FOUND":
            raise
        _refuse(work, way.base, offer.blob, f"{error.code}: {error.what}")
        return False
    _add_bytes(work, got.received)
    work.note(patches=(*work.entry.patches, patch))
    return True


def _follow(work: Work, one: Patch) -> Progress | None:
    """Return what applies a patch while it comes; None where the agent ended meanwhile."""
    if work.entry.tries:
        return None
    return work.ahead.follow(_spec(work, one, grows=True), size=one.size, memory=one.memory)


def _refuse(work: Work, base: str, blob: str, why: str) -> None:
    """Note that a patch is of no use. A file that was only packed badly comes as it is."""
    if base == EMPTY:
        work.note(bad=(*work.entry.bad, blob))
        error = RetryableError("E_PACKED", f"the packed file is of no use ({why})")
        work.tools.notice(work.slot, error)
    else:
        refuse(work, blob, f"its delta is of no use ({why})")


def _add_bytes(work: Work, received: object) -> None:
    if isinstance(received, int):
        work.note(bytes=work.entry.bytes + received)


def _fetch_whole(work: Work, fetcher: Fetcher, file: FileEntry) -> None:
    received: object = 0
    try:
        received = fetcher.fetch_file(file.digest, file.length, cancel=work.cancel).received
    except AgentError as error:
        received = error.data.get("received", 0)
        raise
    finally:
        _add_bytes(work, received)
        if file in work.record.files:  # golden inputs do not make an update a full one
            work.note(method="full")


def patch(work: Work) -> None:
    """Apply the patches that were fetched; the signed digest judges each result.

    Raises:
        FallBackError: A patch did not give the signed file: fetch it in full.
        RetryableError: The disk is in the way, or `E_CANCELLED`.
    """
    if work.entry.patches:
        work.ahead.prepare_test(work.record, work.goal.self_test_ms / 1000)
    for one in work.entry.patches:
        work.check_cancelled()
        if not work.tools.store.has(one.file):  # a cut-short file is not there
            _apply(work, one)
        fsio.remove(work.tools.store.incoming(one.blob))
        if any(one.target == file.digest for file in work.record.files):
            work.note(method="packed" if one.base == EMPTY else "delta")


def _apply(work: Work, one: Patch) -> None:
    store = work.tools.store
    patching = work.ahead.take_patching(_spec(work, one, grows=True))
    if patching is None:
        fsio.require_space(store.partials, one.length, reserve=work.tools.reserve)
        _ensure_blob(work, one)
        patching = Patching(_spec(work, one))
    try:
        patching.finish(cancel=work.cancel)
        store.adopt(one.target, one.length, Path(patching.spec.new))
    except RefusedError as error:
        fsio.remove(store.incoming(one.blob))
        work.note(patches=())
        _refuse(work, one.base, one.blob, f"{error.code}: {error.what}")
        raise FallBackError("E_DELTA", error.what, base=one.base, blob=one.blob) from error


def _spec(work: Work, one: Patch, *, grows: bool = False) -> Spec:
    store = work.tools.store
    return Spec(
        old=str(_path_of(work, one.base)),
        patch=str(store.incoming(one.blob)),
        # a name of its own: a whole download that was cut would go on from its output
        new=str(store.partials / f"{fsio.TMP}{one.target}"),
        digest=one.target,
        length=one.length,
        grows=grows,
    )


def _path_of(work: Work, base: str) -> Path:
    return Path(os.devnull) if base == EMPTY else work.tools.store.path_of(base)


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
