"""Rollouts, their waves, and who ticks them. Times are Unix milliseconds."""

from sqlmodel import Field, SQLModel

from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.words import words
from modelfleet_server.rollouts.domain import State
from modelfleet_server.rollouts.gate import Outcome


class Rollout(SQLModel, table=True):
    """A process that widens one step of one slot of one group.

    Attributes:
        group_id: Of a group that may be gone: a rollout is history, and ids never return.
        step: Id of its step in the group's deployment.
        salt: Of its admission, drawn at the start.
        wave: Number of the wave that is out, -1 before the start.
        waves_json: Waves as text.
        listed_json: Enrolments listed so far.
        gate_json: The gate; null for none.
        reason: Why it is where it is, in words.
        lease_until_ms: Nobody else ticks it before.
    """

    __tablename__ = "rollout"

    id: str = Field(primary_key=True, max_length=32)
    group_id: str = Field(max_length=32, index=True)
    group_name: str = Field(max_length=63)
    slot: str = Field(max_length=63)
    release: str = Field(max_length=64)
    model: str = Field(max_length=127)
    version: str = Field(max_length=64)
    state: State = Field(sa_type=words(State), index=True)
    step: str = Field(max_length=32)
    salt: str = Field(max_length=32)
    wave: int = Field(default=-1)
    waves_json: str
    listed_json: str = Field(default="[]")
    gate_json: str | None = Field(default=None)
    reason: str = Field(default="", max_length=1000)
    created_by: str = Field(max_length=200)
    created_ms: int = Field(sa_type=BigInt)
    changed_ms: int = Field(sa_type=BigInt)
    lease_owner: str = Field(default="", max_length=64)
    lease_until_ms: int = Field(default=0, sa_type=BigInt)


class RolloutWave(SQLModel, table=True):
    """One wave that went out, and what its gate said last."""

    __tablename__ = "rollout_wave"

    rollout_id: str = Field(primary_key=True, max_length=32, foreign_key="rollout.id")
    number: int = Field(primary_key=True)
    text: str
    admitted: int
    started_ms: int = Field(sa_type=BigInt)
    decided_ms: int | None = Field(default=None, sa_type=BigInt)
    outcome: Outcome = Field(sa_type=words(Outcome))
    reason: str = Field(default="", max_length=1000)
    evidence_json: str = Field(default="{}")
