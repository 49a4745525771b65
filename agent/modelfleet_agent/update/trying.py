"""TEST and SWITCH: a release proves itself in a throw-away child, then in service."""

import msgspec

from modelfleet_agent.clock import monotonic_s
from modelfleet_agent.errors import RefusedError, RetryableError
from modelfleet_agent.runtime import selftest
from modelfleet_agent.runtime.memory import needed_bytes
from modelfleet_agent.runtime.messages import Statistics
from modelfleet_agent.update.holding import check_switch
from modelfleet_agent.update.ways import resident
from modelfleet_agent.update.work import Work

LOOK_EVERY_S = 0.1


def test(work: Work) -> None:
    """Run the release on its golden inputs in a limited child.

    Raises:
        HeldError: Outside the maintenance window.
        RefusedError: It crashes, is too slow or too large, or answers wrongly.
        RetryableError: `E_CANCELLED`, or a file is not there any more.
    """
    check_switch(work.tools, work.goal, work.place.serving, work.memory.state)
    work.tools.store.put(work.record)  # all its files are here: it counts as present
    placed = work.tools.deriver.prepare(
        work.record, lambda error: work.tools.notice(work.slot, error), work.cancel
    )
    result = selftest.run(
        placed,
        wall_s=work.goal.self_test_ms / 1000,
        cancel=work.cancel,
        child=work.ahead.take_test(),
    )
    if not result.ok:
        raise RefusedError(result.code, result.reason)
    work.note(memory_kib=result.memory_kib)
    work.note(drains=_drains(work))  # reported with the move to the trial, so beforehand


def _drains(work: Work) -> bool:
    """Say whether the release does not fit beside what serves."""
    if work.place.serving is None or work.place.serving.key == work.record.key:
        return False
    need = needed_bytes(work.record, measured_kib=work.entry.memory_kib)
    return need > work.tools.memory()


def _make_room(work: Work) -> None:
    """Let sessions go until the release fits: the resident previous one, then what serves.

    Requests are answered 503 from then on, until the release answers or what served does.
    """
    runtime = work.tools.runtime
    if not (work.entry.drains or _drains(work)):
        return
    for record in resident(work):
        if work.place.serving and record.key != work.place.serving.key:
            runtime.discard(work.slot, record.key)
    if not _drains(work):
        return
    what = f"{work.record.version} does not fit in memory beside what runs"
    what += ": requests are refused while it loads"
    work.tools.notice(work.slot, RetryableError("E_DRAINS", what))
    runtime.unload(work.slot, drains=True)


def switch(work: Work) -> None:
    """Load the release beside what serves, move the pointer, watch the trial, keep it.

    Only what passed its trial is ever booted: the links move at the end. A release that
    passed one here before is not watched again.

    Raises:
        RefusedError: It cannot be loaded, it fails requests, or the runtime died of it.
        RetryableError: `E_CANCELLED`, or the disk is in the way.
    """
    work.check_cancelled()
    proven = work.memory.state.is_proven(work.record)
    before = _activate(work)
    work.memory.save(work.memory.state.begin(work.goal.step))
    work.place.serving = work.record
    if not proven:
        _watch(work, before)
    keep(work)


def keep(work: Work) -> None:
    """Make the release what a boot loads, and remember that it proved itself."""
    record, goal = work.record, work.goal
    work.tools.slots.advance(work.slot, record)
    state = work.memory.state.begin(goal.step).prove_variant(record).clear(record.digest)
    work.memory.save(
        msgspec.structs.replace(
            state,
            current=record,
            variant=goal.variant,
            step=goal.step or state.step,
            since=work.tools.clock(),
            bytes=work.entry.bytes,
            method=work.entry.method,
            fell_back=work.entry.fell_back,
        )
    )
    work.place.settle(record)


def _activate(work: Work) -> Statistics:
    """Return the counters from just before the new session answered anything."""
    runtime = work.tools.runtime
    placed = work.tools.deriver.place(work.record)
    try:
        runtime.start()
        _make_room(work)
        runtime.load(work.slot, placed)
        before = runtime.statistics()
        runtime.activate(work.slot, work.record.key)
    except RetryableError as error:
        if error.code in {"E_RUNTIME_GONE", "E_RUNTIME_TIMEOUT"}:
            raise RefusedError(
                "E_LOAD_CRASH", f"the runtime did not survive loading it: {error.what}"
            ) from error
        raise
    return before


def _watch(work: Work, before: Statistics) -> None:
    goal = work.goal
    deadline = monotonic_s() + goal.trial_ms / 1000
    allowed = _errors(work, before) + goal.trial_errors
    while True:
        now = _look(work)
        if now.boot != before.boot:
            raise RefusedError("E_TRIAL_CRASH", "the runtime died during its trial")
        if _errors(work, now) > allowed:
            failed = _errors(work, now) - allowed + goal.trial_errors
            raise RefusedError(
                "E_TRIAL_ERRORS",
                f"{failed} requests failed in its trial, {goal.trial_errors} may",
            )
        left = deadline - monotonic_s()
        if left <= 0:
            return
        if work.cancel.wait(min(left, LOOK_EVERY_S)):
            work.check_cancelled()


def _look(work: Work) -> Statistics:
    try:
        return work.tools.runtime.statistics()
    except RetryableError as error:
        raise RefusedError(
            "E_TRIAL_CRASH", f"the runtime died during its trial: {error.what}"
        ) from error


def _errors(work: Work, counters: Statistics) -> int:
    return sum(
        row.errors
        for row in counters.releases
        if (row.slot, row.key) == (work.slot, work.record.key)
    )
