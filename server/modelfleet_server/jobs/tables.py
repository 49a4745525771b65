"""Jobs, and the processes that take them. Times are Unix milliseconds."""

from typing import Any, ClassVar

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from modelfleet_server.jobs.domain import State
from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.words import words


class Job(SQLModel, table=True):
    """A piece of work that was asked for: what people see, and the outbox of the queue.

    Attributes:
        kind: What sort of work; see `kinds`.
        key: What it is about; one job per kind and key.
        lane: Lanes take turns; usually a model's name.
        title: What it is about, for people; empty for nothing beyond kind and lane.
        payload_json: What the work needs to know.
        actor: Who asked.
        turn: Jobs are taken by turn, see `domain.next_turn`.
        run: How often it was asked for again from its beginning; step results belong to
            one run.
        handed: This run was handed to the queue.
        starts: How often a process began it: with the executor, the fence that keeps a
            process which was taken for dead from writing.
        losses: How often a process ended before it did.
        executor: Which process runs it; empty for none.
        step: What runs now, or ran last, in words.
        done: Steps that are done, of `of`; 0 of 0 where nobody knows yet.
        code: Of the error, for programs; empty unless failed or cancelled.
        reason: Why it failed, in words.
        hint: What to do about it.
        queued_ms: When it was asked for, or asked for again.
    """

    __tablename__ = "job"
    __table_args__: ClassVar[Any] = (
        UniqueConstraint("kind", "key"),
        Index("ix_job_lane_state", "lane", "state"),
        Index("ix_job_queued_ms_id", "queued_ms", "id"),
    )

    id: str = Field(primary_key=True, max_length=32)
    kind: str = Field(max_length=63)
    key: str = Field(max_length=200)
    lane: str = Field(max_length=127)
    title: str = Field(default="", max_length=200)
    payload_json: str = "{}"
    actor: str = Field(max_length=200)
    state: State = Field(sa_type=words(State), index=True)
    turn: int = Field(index=True)
    run: int = 1
    handed: bool = False
    starts: int = 0
    losses: int = 0
    executor: str = Field(default="", max_length=32)
    step: str = Field(default="", max_length=100)
    done: int = 0
    of: int = 0
    code: str = Field(default="", max_length=64)
    reason: str = ""
    hint: str = ""
    queued_ms: int = Field(sa_type=BigInt)
    started_ms: int | None = Field(default=None, sa_type=BigInt)
    finished_ms: int | None = Field(default=None, sa_type=BigInt)


class Executor(SQLModel, table=True):
    """A process that takes jobs; the oldest living one also leads.

    Attributes:
        host: Where it runs, for people.
        beat: Rises as long as it lives.
        left: It ended in good order, and what it held waits for another.
    """

    __tablename__ = "job_executor"

    id: str = Field(primary_key=True, max_length=32)
    host: str = Field(max_length=255)
    pid: int
    beat: int = Field(default=0, sa_type=BigInt)
    left: bool = False
    since_ms: int = Field(sa_type=BigInt)
