"""The processes that take jobs, as rows. Never commits."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete
from sqlmodel import Session, col, select

from modelfleet_server.jobs.tables import Executor


def beat(session: Session, executor: Executor) -> None:
    """Show a sign of life; whoever was taken for dead is known again."""
    row = session.get(Executor, executor.id)
    if row is None:
        session.add(Executor(**executor.model_dump()))
    else:
        row.beat += 1
        session.add(row)


def leave(session: Session, executor_id: str) -> None:
    """Note that an executor ends; what it held is taken up at once."""
    row = session.get(Executor, executor_id)
    if row is not None:
        row.left = True
        session.add(row)


def list_executors(session: Session) -> list[Executor]:
    """Return all executors, the oldest first: the first that lives leads."""
    order = (col(Executor.since_ms), col(Executor.id))
    return list(session.exec(select(Executor).order_by(*order)).all())


def leads(executors: Sequence[Executor], executor_id: str, dead: Collection[str]) -> bool:
    """Say whether this executor leads: it is the first of those that live."""
    living = (one.id for one in executors if one.id not in dead)
    return next(living, "") == executor_id


def forget(session: Session, executor_ids: Collection[str]) -> None:
    """Drop executors whose jobs were all taken up."""
    session.exec(delete(Executor).where(col(Executor.id).in_(executor_ids)))
