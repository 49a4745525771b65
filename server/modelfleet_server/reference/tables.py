"""Evaluations as rows. Times are Unix milliseconds."""

from typing import Any, ClassVar

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.words import words
from modelfleet_server.reference.domain import State


class Evaluation(SQLModel, table=True):
    """One candidate on one device.

    Attributes:
        id: The job of the document.
        candidate: The variant's digest: a build that is tried again makes another.
        document: What the director signed.
        due_ms: Until when it is waited for; another device is asked afterwards.
        answers: SHA-256 of the answers that were uploaded, "" before.
        result: What the device signed, empty before.
        scores_json: What came out when it was graded, see `builds.messages.Scores`.
        reason: Why it failed or missed its budget, in words.
    """

    __tablename__ = "evaluation"
    __table_args__: ClassVar[Any] = (UniqueConstraint("build_id", "device", "candidate"),)

    id: str = Field(primary_key=True, max_length=32)
    build_id: str = Field(max_length=32, foreign_key="build.id", index=True)
    device: str = Field(max_length=63, foreign_key="device.id", index=True)
    candidate: str = Field(max_length=64)
    state: State = Field(sa_type=words(State), index=True)
    document: bytes
    issued_ms: int = Field(sa_type=BigInt)
    due_ms: int = Field(sa_type=BigInt)
    answers: str = Field(default="", max_length=64)
    result: bytes = b""
    scores_json: str = ""
    reason: str = ""
    finished_ms: int | None = Field(default=None, sa_type=BigInt)
