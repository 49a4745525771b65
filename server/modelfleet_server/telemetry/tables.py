"""Batches of telemetry, a row per device, slot and release. Times are Unix milliseconds."""

from typing import Any, ClassVar

from sqlalchemy import Index
from sqlmodel import Field, SQLModel

from modelfleet_server.kit.columns import BigInt


class TelemetryBatch(SQLModel, table=True):
    """The last batch taken in from a device: makes ingest idempotent."""

    __tablename__ = "telemetry_batch"

    device: str = Field(primary_key=True, max_length=63)
    incarnation: int = Field(sa_type=BigInt)
    seq: int = Field(sa_type=BigInt)
    memory_kb: int = Field(sa_type=BigInt)
    received_ms: int = Field(sa_type=BigInt)


class TelemetryCount(SQLModel, table=True):
    """What one release did in one slot of one device during one batch."""

    __tablename__ = "telemetry_count"
    __table_args__: ClassVar[Any] = (
        Index("ix_telemetry_slot_release", "slot", "release", "received_ms"),
        Index("ix_telemetry_device", "device", "received_ms"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInt)
    device: str = Field(max_length=63)
    slot: str = Field(max_length=63)
    release: str = Field(max_length=64)
    step: str | None = Field(default=None, max_length=32)
    since_ms: int = Field(sa_type=BigInt)
    until_ms: int = Field(sa_type=BigInt)
    received_ms: int = Field(sa_type=BigInt)
    requests: int = Field(sa_type=BigInt)
    errors: int = Field(sa_type=BigInt)
    latency_us: int = Field(sa_type=BigInt)
    labelled: int = Field(sa_type=BigInt)
    hits: int = Field(sa_type=BigInt)
    buckets_json: str
