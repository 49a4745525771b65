"""Plans asked for, what came of them written down, and what nobody needs swept."""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import func
from sqlmodel import Session, col, select

from modelfleet_manifests.release import Release, ReleaseRef
from modelfleet_server.audit.service import record
from modelfleet_server.blobs.service import BlobStore, forget
from modelfleet_server.catalog import service as catalog
from modelfleet_server.deltas import store
from modelfleet_server.deltas.domain import (
    OPEN,
    Event,
    Held,
    Needs,
    State,
    after,
    find_doomed,
)
from modelfleet_server.deltas.store import Need
from modelfleet_server.deltas.tables import Delta
from modelfleet_server.jobs import service as jobs
from modelfleet_server.jobs.domain import OPEN as WORKING
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.access import system
from modelfleet_server.trust.domain import Kind as Change
from modelfleet_server.trust.domain import State as ProposalState
from modelfleet_server.trust.tables import Proposal

KIND = "deltas"
"""Of the jobs that make deltas, one per release."""
PLANNER = str(system("deltas"))
MAX_REASON = 500


class Order(msgspec.Struct, frozen=True):
    """What a plan is for.

    Attributes:
        release: Id of the release.
        retry: Also try again what failed before.
    """

    release: str
    retry: bool = False


class Result(msgspec.Struct, frozen=True):
    """What came of trying to make a delta.

    Attributes:
        blob: SHA-256 of the patch; "" where there is none.
        length: Its bytes.
        problem: Why there is none, in words.
    """

    new: str
    old: str
    blob: str = ""
    length: int = 0
    method: str = ""
    memory: int = 0
    problem: str = ""


def request(
    session: Session,
    ref: ReleaseRef,
    *,
    actor: str,
    at_ms: int,
    retry: bool = False,
) -> Job:
    """Ask for the deltas to a release that save most; once at a time for each release."""
    wish = jobs.Wish(KIND, ref.id, ref.model, Order(ref.id, retry), ref.version)
    return jobs.submit(session, wish, actor=actor, at_ms=at_ms, again=True)


def on_closed(session: Session, proposal: Proposal, now_ms: int) -> None:
    """Plan for a release that was signed just now. Register with `Publisher.on_closed`."""
    if (proposal.kind, proposal.state) != (Change.RELEASE, ProposalState.PUBLISHED):
        return
    model, _, version = proposal.subject.partition("@")
    ref, _release = catalog.find_release(session, model, version)
    request(session, ref, actor=PLANNER, at_ms=now_ms)


def find_plan(session: Session, release_id: str) -> Job | None:
    """Return the job that made, makes or will make the deltas to a release."""
    return jobs.find_jobs(session, KIND, [release_id]).get(release_id)


def is_pending(session: Session, release_id: str) -> bool:
    """Say whether deltas to a release are asked for or being made."""
    job = find_plan(session, release_id)
    return job is not None and job.state in WORKING


def lacks(session: Session, needs: Iterable[Need]) -> bool:
    """Say whether a delta could help that no plan has looked at yet."""
    pairs = [(one.new, one.old) for one in needs]
    known = store.find_deltas(session, pairs)
    return any(
        pair not in known or known[pair].state in OPEN or _is_lost(session, known[pair])
        for pair in pairs
    )


def open_needs(
    session: Session, order: Order, needs: Sequence[Need], *, at_ms: int
) -> list[Need]:
    """Write down what is needed, and return what a plan is to look at now."""
    known = store.find_deltas(session, [(one.new, one.old) for one in needs])
    opened = []
    for need in needs:
        row = known.get((need.new, need.old))
        if row is not None and not _may_plan(session, row, retry=order.retry):
            row.devices, row.needed_ms = need.devices, at_ms
            session.add(row)
            continue
        opened.append(need)
    return opened


def plan(
    session: Session,
    release: tuple[str, Release],
    need: Need,
    estimate: int,
    *,
    at_ms: int,
) -> Delta:
    """Write down that a delta was weighed and is planned."""
    release_id, statement = release
    row = session.get(Delta, (need.new, need.old))
    if row is None or _is_lost(session, row):
        if row is not None:
            session.delete(row)
            session.flush()
        row = Delta(
            new=need.new, old=need.old, release="", model="", version="", profile="",
            state=State.PLANNED, changed_ms=at_ms, needed_ms=at_ms,
        )  # fmt: skip
    row.state = after(row.state, Event.PLAN)
    row.release, row.model, row.version = release_id, statement.model, statement.version
    row.profile, row.devices = need.profile, need.devices
    row.size, row.whole, row.estimate, row.length = need.size, need.whole, estimate, 0
    row.reason = f"is to be made; about {estimate:,} of {need.whole:,} bytes"
    row.changed_ms = row.needed_ms = at_ms
    session.add(row)
    session.flush()
    return row


def move(
    session: Session, pair: tuple[str, str], event: Event, reason: str, *, at_ms: int
) -> None:
    """Note what became of a planned delta; one that was noted already stays."""
    row = session.get(Delta, pair)
    if row is not None and row.state is State.PLANNED:
        row.state = after(row.state, event)
        row.reason, row.changed_ms = reason[:MAX_REASON], at_ms
        session.add(row)


def postpone(session: Session, pairs: Iterable[tuple[str, str]], *, at_ms: int) -> None:
    """Leave planned deltas to the next plan."""
    why = "the budget went to deltas that save more; the next plan looks again"
    for pair in pairs:
        move(session, pair, Event.POSTPONE, why, at_ms=at_ms)


def settle(
    session: Session, results: Iterable[Result], blobs: BlobStore, *, at_ms: int
) -> None:
    """Offer what was made; drop what is not smaller than the packed file."""
    for one in results:
        pair = (one.new, one.old)
        row = session.get(Delta, pair)
        if row is None or row.state is not State.PLANNED:
            continue
        row.length = one.length
        if one.problem:
            move(session, pair, Event.FAIL, one.problem, at_ms=at_ms)
        elif one.length >= row.whole:
            why = f"{one.length:,} bytes; the packed file has {row.whole:,}"
            move(session, pair, Event.DROP, why, at_ms=at_ms)
        else:
            # raises where a sweep removed equal bytes meanwhile: the step is done again
            patch = catalog.Patch(blobs.get(one.blob), one.method, one.memory)
            catalog.offer_delta(session, one.new, one.old, patch, now_ms=at_ms)
            why = f"{one.length:,} of {row.whole:,} bytes"
            move(session, pair, Event.MAKE, why, at_ms=at_ms)


def sweep(session: Session, blobs: BlobStore, *, now_ms: int, keep_ms: int) -> int:
    """Remove deltas that no device has needed for `keep_ms`; return how many."""
    rows = {
        (row.new, row.old): row
        for row in session.exec(select(Delta).where(Delta.state == State.MADE))
    }
    if not rows:
        return 0
    planned = session.exec(
        select(Job.key).where(Job.kind == KIND, col(Job.state).in_(WORKING))
    ).all()
    needs = Needs(store.find_running(session), store.find_wanted(session, planned))
    held = [Held(row.new, row.old, row.needed_ms) for row in rows.values()]
    for one in held:
        if needs.include(one):
            rows[one.new, one.old].needed_ms = now_ms
    doomed = find_doomed(held, needs, now_ms=now_ms, keep_ms=keep_ms)
    for one in doomed:
        blob = catalog.withdraw_delta(session, one.new, one.old)
        if blob is not None:
            forget(session, blob, blobs)
        session.delete(rows[one.new, one.old])
        subject = f"{rows[one.new, one.old].model}@{rows[one.new, one.old].version}"
        detail = {"new": one.new, "old": one.old}
        record(session, PLANNER, "delta.swept", subject, detail, at_ms=now_ms)
    session.flush()
    return len(doomed)


def _may_plan(session: Session, row: Delta, *, retry: bool) -> bool:
    again = row.state in OPEN or (retry and row.state is State.FAILED)
    return again or _is_lost(session, row)


def _is_lost(session: Session, row: Delta) -> bool:
    """Say whether a delta was made and is not on offer any more."""
    made = row.state is State.MADE
    return made and catalog.find_delta(session, row.new, row.old) is None


def totals(session: Session, release_id: str) -> dict[State, int]:
    """Return how many deltas to a release are in each state."""
    statement = select(Delta.state, func.count()).where(Delta.release == release_id)
    found = dict(session.exec(statement.group_by(Delta.state)).all())
    return {state: found.get(state, 0) for state in State}


def total_saving(session: Session, release_id: str) -> int:
    """Return the bytes that all devices together need not fetch of a release."""
    rows = session.exec(
        select(Delta).where(Delta.release == release_id, Delta.state == State.MADE)
    )
    return sum((row.whole - row.length) * row.devices for row in rows)
