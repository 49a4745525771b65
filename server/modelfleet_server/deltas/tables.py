"""Pairs of files that were considered, and what became of each. Times are Unix ms."""

from typing import Any, ClassVar

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from modelfleet_server.deltas.domain import State
from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.words import words


class Delta(SQLModel, table=True):
    """A delta from the file `old` to the file `new`: wanted, made, or why not. In bytes.

    Attributes:
        release: Id of the release that was planned for.
        profile: Of its variant.
        devices: That ran `old` when it was planned last.
        size: Of the new file.
        whole: What a device fetches without this delta.
        estimate: Of the delta, by the codec; 0 before it was weighed.
        length: Of the delta; 0 unless it was made, or made and dropped.
        reason: Why it is as it is, in words.
        needed_ms: When a device last could use it.
    """

    __tablename__ = "delta"
    __table_args__: ClassVar[Any] = (Index("ix_delta_changed_ms", "changed_ms", "new"),)

    new: str = Field(primary_key=True, max_length=64)
    old: str = Field(primary_key=True, max_length=64)
    release: str = Field(max_length=64, index=True)
    model: str = Field(max_length=127)
    version: str = Field(max_length=64)
    profile: str = Field(max_length=63)
    state: State = Field(sa_type=words(State), index=True)
    devices: int = 0
    size: int = Field(default=0, sa_type=BigInt)
    whole: int = Field(default=0, sa_type=BigInt)
    estimate: int = Field(default=0, sa_type=BigInt)
    length: int = Field(default=0, sa_type=BigInt)
    reason: str = Field(default="", max_length=500)
    changed_ms: int = Field(sa_type=BigInt)
    needed_ms: int = Field(sa_type=BigInt)
