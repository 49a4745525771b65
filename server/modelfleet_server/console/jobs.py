"""The page of jobs as plain data: what runs, what waits in which order, what ended how."""

from dataclasses import dataclass
from urllib.parse import urlencode

from sqlmodel import Session, col, func, select

from modelfleet_server.console import words
from modelfleet_server.jobs.domain import ENDED, OPEN, State
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.paging import Ask, fetch_page

MAX_OPEN = 50
ENDED_ROWS = 25
WIDTH = 1000
"""Of a bar, in its own units."""


@dataclass(frozen=True, slots=True)
class JobRow:
    """One line of a list. `at_ms` is when it was asked for, started or ended."""

    key: str
    title: str
    model: str
    word: str
    shape: str
    tone: str
    what: str
    count: str
    part: int
    at_ms: int
    can_cancel: bool
    cancel_href: str


@dataclass(frozen=True, slots=True)
class JobsView:
    """All of the page that may change while somebody looks."""

    at_ms: int
    total: str
    open: list[JobRow]
    ended: list[JobRow]
    more: str
    next_href: str


def jobs_view(session: Session, after: str, *, now_ms: int) -> JobsView:
    """Return the page.

    Args:
        session: Any.
        after: Where the list of ended jobs goes on; empty for its beginning.
        now_ms: Now.

    Raises:
        InvalidError: `after` is not of this list.
    """
    is_open = col(Job.state).in_(OPEN)
    order = ((col(Job.state) == State.QUEUED), col(Job.turn), col(Job.queued_ms))
    running = session.exec(select(Job).where(is_open).order_by(*order).limit(MAX_OPEN))
    total = session.exec(select(func.count()).select_from(Job).where(is_open)).one()
    ended = select(Job).where(col(Job.state).in_(ENDED))
    keys = [Job.queued_ms, Job.id]
    ask = Ask(ENDED_ROWS, after or None)
    rows, cursor = fetch_page(session, ended, keys, ask, newest_first=True)
    hidden = total - MAX_OPEN
    return JobsView(
        at_ms=now_ms,
        total=words.count(total, "open", "open"),
        open=[_row(one) for one in running],
        ended=[_row(one) for one in rows],
        more=f"{words.count(hidden, 'more waits', 'more wait')}" if hidden > 0 else "",
        next_href=f"/jobs?{urlencode({'after': cursor})}" if cursor else "",
    )


def _row(job: Job) -> JobRow:
    look = words.JOB[job.state]
    runs = job.state is State.RUNNING
    moment = job.finished_ms or (job.started_ms if runs else None) or job.queued_ms
    return JobRow(
        key=job.id,
        title=f"{job.kind} {job.title or job.id[:8]}",
        model=job.lane,
        word=look.word,
        shape=look.shape,
        tone=look.tone,
        what=job.reason or (job.step if runs else ""),
        count=f"{job.done} of {job.of}" if runs and job.of else "",
        part=WIDTH * job.done // job.of if runs and job.of else 0,
        at_ms=moment,
        can_cancel=job.state in OPEN,
        cancel_href=f"/jobs/{job.id}/cancel",
    )
