"""Tables of the catalog. Times are Unix milliseconds; JSON columns hold canonical JSON."""

from typing import Any, ClassVar

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from modelfleet_server.catalog.domain import State
from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.words import words


class Model(SQLModel, table=True):
    """A named line of versions, `vision/defect-detector`."""

    __tablename__ = "model"

    name: str = Field(primary_key=True, max_length=127)
    created_by: str = Field(max_length=200)
    created_ms: int = Field(sa_type=BigInt)


class ModelVersion(SQLModel, table=True):
    """One immutable version: the master with its lineage, and what became of it.

    Attributes:
        master: Digest of the full-precision model, a blob.
        evaluation: Digest of the set that variants are measured on, a blob.
        calibration: Digest of the set that quantizing uses, "" if there is none.
        lineage: Digest of `lineage_json`.
        tensors_json: Inputs and outputs, as the master has them.
        slots_json: Names of the slots that may hold it.
        rollback_json: Versions that a device may return to; null for the default.
        profiles_json: What variants are built for.
        vouched_json: How approvers vouch for variants, see `vouching`.
        proposal: The proposal that lists it, "" before there is one.
        release: Release id once it is proposed, "" before.
        reason: Why it is where it is, in words; may be empty.
    """

    __tablename__ = "model_version"
    __table_args__: ClassVar[Any] = (UniqueConstraint("model", "version"),)

    id: str = Field(primary_key=True, max_length=32)
    model: str = Field(max_length=127, foreign_key="model.name")
    version: str = Field(max_length=64)
    state: State = Field(sa_type=words(State), index=True)
    master: str = Field(max_length=64, foreign_key="blob.digest")
    master_length: int = Field(sa_type=BigInt)
    evaluation: str = Field(max_length=64, foreign_key="blob.digest")
    calibration: str = Field(default="", max_length=64)
    lineage: str = Field(max_length=64)
    lineage_json: str
    tensors_json: str
    slots_json: str
    rollback_json: str | None = None
    demands_json: str
    vouched_json: str = "{}"
    profiles_json: str
    proposal: str = Field(default="", max_length=32, index=True)
    release: str = Field(default="", max_length=64, index=True)
    reason: str = Field(default="", max_length=500)
    created_by: str = Field(max_length=200)
    created_ms: int = Field(sa_type=BigInt, index=True)
    released_ms: int | None = Field(default=None, sa_type=BigInt)


class VersionVariant(SQLModel, table=True):
    """What a recipe made of a version's master for a profile.

    Attributes:
        digest: Names the variant on a device, see `release.files_digest`.
        variant_json: As the release states it.
    """

    __tablename__ = "version_variant"

    version_id: str = Field(primary_key=True, max_length=32, foreign_key="model_version.id")
    profile: str = Field(primary_key=True, max_length=63)
    name: str = Field(max_length=63)
    digest: str = Field(max_length=64, index=True)
    variant_json: str
    created_ms: int = Field(sa_type=BigInt)


class Channel(SQLModel, table=True):
    """Where a channel of a model points now."""

    __tablename__ = "channel"

    model: str = Field(primary_key=True, max_length=127, foreign_key="model.name")
    name: str = Field(primary_key=True, max_length=63)
    version: str = Field(max_length=64)
    moved_ms: int = Field(sa_type=BigInt)


class ChannelMove(SQLModel, table=True):
    """One step of a channel's history; `number` counts from 1 per channel."""

    __tablename__ = "channel_move"

    model: str = Field(primary_key=True, max_length=127)
    channel: str = Field(primary_key=True, max_length=63)
    number: int = Field(primary_key=True)
    version: str = Field(max_length=64)
    actor: str = Field(max_length=200)
    moved_ms: int = Field(sa_type=BigInt)


class DeltaOffer(SQLModel, table=True):
    """A patch that turns the file `old` into the file `new`.

    Attributes:
        blob: Digest of the patch.
        length: Bytes of the patch.
        method: As the patch names it, for people.
        memory: Bytes that applying it needs.
    """

    __tablename__ = "delta_offer"

    new: str = Field(primary_key=True, max_length=64)
    old: str = Field(primary_key=True, max_length=64)
    blob: str = Field(max_length=64, foreign_key="blob.digest")
    length: int = Field(sa_type=BigInt)
    method: str = Field(max_length=63)
    memory: int = Field(sa_type=BigInt)
    created_ms: int = Field(sa_type=BigInt)
