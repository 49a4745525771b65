"""RESTORE and REMOVE: back to what served before, or to nothing."""

import logging

import msgspec

from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.store import Record
from modelfleet_agent.update.policy import Backoff
from modelfleet_agent.update.state import Failure, quarantine
from modelfleet_agent.update.ways import resident
from modelfleet_agent.update.work import Work

log = logging.getLogger(__name__)

HOUR_MS = 3_600_000
LOADS = 2  # once more where the child died: another slot's model may have killed it
DIED = frozenset({"E_RUNTIME_GONE", "E_RUNTIME_TIMEOUT"})


def restore(work: Work) -> None:
    """Let what is kept answer again; failing that, what ran before; failing that, nothing.

    What was stopped is not restored. Nothing is downloaded here.

    Raises:
        RetryableError: The runtime child cannot be had; to be tried again.
    """
    failed = work.record.key
    # a repair that failed is tried last: what ran before did not fail just now
    for record in sorted(resident(work), key=lambda one: one.key == failed):
        if not work.tools.is_stopped(record) and bring_back(work, record):
            if record.key != failed:
                work.tools.runtime.discard(work.slot, failed)
            return
    work.tools.runtime.unload(work.slot)
    work.place.settle(None)


def bring_back(work: Work, record: Record, *, doubted: bool = False) -> bool:
    """Say whether `record` answers now.

    Args:
        work: Of its slot.
        record: What is to answer.
        doubted: A child died already. Then its files are hashed before they are loaded:
            one that is altered may kill the child sooner than it is found, and would be
            taken for a release that does.

    Raises:
        RetryableError: The runtime child cannot be had.
    """
    runtime, deriver = work.tools.runtime, work.tools.deriver
    left = LOADS
    while left > 0:
        runtime.start()
        is_made = False
        try:
            if doubted:
                _prove(work, record)
            placed = deriver.place(record)
            is_made = placed.derived is not None
            runtime.load(work.slot, placed)
            runtime.activate(work.slot, record.key)
        except (RefusedError, RetryableError) as error:
            log.warning("MF_RESTORE slot=%s %s", work.slot, error)
            work.tools.notice(work.slot, error)
            doubted = doubted or error.code in DIED
            if is_made:  # what this device made of the release may be to blame
                deriver.drop(record)
                continue
            left -= 1
            if error.code not in DIED:
                return False
        else:
            work.place.settle(record)
            return True
    return False


def _prove(work: Work, record: Record) -> None:
    for file in record.files:
        if not work.tools.store.verify(file.digest):
            path = work.tools.store.path_of(file.digest)
            what = f"{path} holds other bytes than were signed, or cannot be read"
            raise RefusedError("E_DIGEST", what, expected=file.digest)


def roll_back(work: Work, record: Record, why: str, hours: float) -> None:
    """Let `record`, the previous release, serve and be booted; put by what serves now.

    Cut anywhere, either of both is booted; the wish may be repeated.

    Raises:
        RetryableError: The previous release does not load: what served goes on.
    """
    state, was = work.memory.state, work.place.settled
    if not bring_back(work, record):
        if was is not None:
            bring_back(work, was)
        raise RetryableError("E_ROLLBACK", f"{record.version} does not load any more")
    work.tools.slots.restore(work.slot)
    now = work.tools.clock()
    if was is not None:
        failed = Failure(state.step, was.digest, "E_ROLLED_BACK", why)
        wait = Backoff(int(hours * HOUR_MS), int(hours * HOUR_MS), jitter=0)
        state = quarantine(state, failed, now, work.tools.rng, wait)
    work.memory.save(
        msgspec.structs.replace(
            state,
            current=record,
            variant="",
            step=None,
            since=now,
            bytes=0,
            method="none",
            fell_back="",
        )
    )


def remove(work: Work) -> None:
    """Let the slot run nothing, now and after a boot; what it remembers stays.

    Raises:
        RetryableError: The runtime child or the disk is in the way.
    """
    if work.tools.runtime.ready:
        work.tools.runtime.unload(work.slot)
    work.place.settle(None)
    work.tools.slots.remove(work.slot)
    state = msgspec.structs.replace(
        work.memory.state,
        current=None,
        variant="",
        step=None,
        bytes=0,
        method="none",
        fell_back="",
    )
    work.memory.save(state)
