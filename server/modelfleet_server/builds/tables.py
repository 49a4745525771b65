"""Builds as rows. Times are Unix milliseconds."""

from typing import Any, ClassVar

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from modelfleet_server.builds.domain import State
from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.words import words


class Build(SQLModel, table=True):
    """One variant of one version, to be made or made; one row per version and profile.

    A job of kind `build` and this id makes it.

    Attributes:
        version_id: Of the catalog's version.
        profile: A profile's name, see `profiles`.
        code: Of the error, for programs; empty unless failed.
        reason: Why it failed, in words.
        hint: What to do about it.
        override: The candidate that an approver let pass the gate; empty for none.
        override_by: Who let it pass.
        override_reason: Why, in their words; signed with the variant.
        built_json: What was built, see `messages.Built`; empty until done.
        queued_ms: When it was asked for, or asked for again.
    """

    __tablename__ = "build"
    __table_args__: ClassVar[Any] = (UniqueConstraint("version_id", "profile"),)

    id: str = Field(primary_key=True, max_length=32)
    version_id: str = Field(max_length=32, foreign_key="model_version.id", index=True)
    profile: str = Field(max_length=63)
    state: State = Field(sa_type=words(State), index=True)
    code: str = Field(default="", max_length=64)
    reason: str = ""
    hint: str = ""
    override: str = Field(default="", max_length=32)
    override_by: str = Field(default="", max_length=128)
    override_reason: str = ""
    built_json: str = ""
    queued_ms: int = Field(sa_type=BigInt)
    finished_ms: int | None = Field(default=None, sa_type=BigInt)
