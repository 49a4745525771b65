"""Tables of devices, claims, groups and twins. Times are Unix milliseconds."""

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel

from modelfleet_server.devices.domain import DeviceState
from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.words import words


class Device(SQLModel, table=True):
    """A device and the twin's scalar part.

    Attributes:
        id: Device id; the same after a re-enrolment.
        enrolment: 128 random bits that the server chose for this enrolment.
        incarnation: How many times this id has been enrolled.
        report_key: Ed25519 public key of its reports, hexadecimal.
        token_hash: SHA-256 of its bearer token.
        nonce: Report nonce of its assignment.
        labels_json: Labels, canonical JSON.
        facts_json: Facts of the last report.
        seq: Number of the last report that was taken in, 0 before the first.
        chain: Digest of that report's payload.
        reported_ms: When it came, 0 before the first.
        heard_ms: When anything last came from it.
        online: What presence says; a hint.
        forks: How often the report chain continued on another past.
    """

    __tablename__ = "device"

    id: str = Field(primary_key=True, max_length=63)
    enrolment: str = Field(max_length=32, unique=True)
    incarnation: int = Field(default=1, sa_type=BigInt)
    state: DeviceState = Field(sa_type=words(DeviceState), index=True)
    report_key: str = Field(max_length=64)
    token_hash: str = Field(max_length=64, unique=True)
    nonce: str = Field(max_length=32)
    labels_json: str = Field(default="{}")
    facts_json: str = Field(default="{}")
    profile: str = Field(default="", max_length=63, index=True)
    seq: int = Field(default=0, sa_type=BigInt)
    chain: str = Field(default="0" * 64, max_length=64)
    enrolled_ms: int = Field(sa_type=BigInt)
    reported_ms: int = Field(default=0, sa_type=BigInt, index=True)
    heard_ms: int = Field(default=0, sa_type=BigInt)
    online: bool = Field(default=False)
    forks: int = Field(default=0)
    errors_json: str = Field(default="[]")


class DeviceLabel(SQLModel, table=True):
    """One label, so that lists can be filtered by it."""

    __tablename__ = "device_label"

    device: str = Field(primary_key=True, max_length=63, foreign_key="device.id")
    key: str = Field(primary_key=True, max_length=63, index=True)
    value: str = Field(max_length=63, index=True)


class Claim(SQLModel, table=True):
    """A one-time claim token; only its hash is kept."""

    __tablename__ = "claim"

    token_hash: str = Field(primary_key=True, max_length=64)
    device: str = Field(max_length=63, index=True)
    labels_json: str = Field(default="{}")
    created_by: str = Field(max_length=200)
    created_ms: int = Field(sa_type=BigInt)
    expires_ms: int = Field(sa_type=BigInt)
    used_ms: int | None = Field(default=None, sa_type=BigInt)


class Group(SQLModel, table=True):
    """A group: picked by a selector, or by listing its members."""

    __tablename__ = "device_group"

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(unique=True, max_length=63)
    selector: str | None = Field(default=None, max_length=1000)
    priority: int = Field(default=0)
    created_ms: int = Field(sa_type=BigInt)


class Member(SQLModel, table=True):
    """A device that is in a group now; computed for selectors, given for lists."""

    __tablename__ = "group_member"

    group_id: str = Field(primary_key=True, max_length=32, foreign_key="device_group.id")
    device: str = Field(
        primary_key=True, max_length=63, foreign_key="device.id", index=True
    )


class GroupSlot(SQLModel, table=True):
    """A slot that a group governs, since its first rollout there."""

    __tablename__ = "group_slot"

    group_id: str = Field(primary_key=True, max_length=32, foreign_key="device_group.id")
    slot: str = Field(primary_key=True, max_length=63)


class Departure(SQLModel, table=True):
    """A member that left a group and has not yet reported its newer assignment."""

    __tablename__ = "group_departure"

    group_id: str = Field(primary_key=True, max_length=32, foreign_key="device_group.id")
    enrolment: str = Field(primary_key=True, max_length=32)
    device: str = Field(max_length=63, index=True)
    epoch: int = Field(sa_type=BigInt)
    counter: int = Field(sa_type=BigInt)


class SlotState(SQLModel, table=True):
    """What a device last reported of a slot."""

    __tablename__ = "slot_state"

    device: str = Field(primary_key=True, max_length=63, foreign_key="device.id")
    slot: str = Field(primary_key=True, max_length=63, index=True)
    phase: str = Field(max_length=63)
    action: str = Field(max_length=63)
    reason: str = Field(max_length=63, index=True)
    detail: str = Field(max_length=200)
    step: str | None = Field(default=None, max_length=32, index=True)
    wanted: str | None = Field(default=None, max_length=64)
    begun_json: str = Field(default="[]")
    release: str | None = Field(default=None, max_length=64, index=True)
    model: str | None = Field(default=None, max_length=127)
    version: str | None = Field(default=None, max_length=64)
    variant: str | None = Field(default=None, max_length=63)
    digest: str | None = Field(default=None, max_length=64)
    intact: bool = Field(default=True)
    failures: int = Field(default=0, sa_type=BigInt)
    fetched_bytes: int = Field(default=0, sa_type=BigInt)
    method: str = Field(default="none", max_length=63)
    group_id: str | None = Field(default=None, max_length=32, index=True)
    epoch: int = Field(default=0, sa_type=BigInt)
    counter: int = Field(default=0, sa_type=BigInt)
    reported_ms: int = Field(sa_type=BigInt)
    changed_ms: int = Field(sa_type=BigInt)


class HeldDocument(SQLModel, table=True):
    """The order of a document that a device says it holds."""

    __tablename__ = "held_document"

    device: str = Field(primary_key=True, max_length=63, foreign_key="device.id")
    topic: str = Field(primary_key=True, max_length=255)
    epoch: int = Field(sa_type=BigInt)
    counter: int = Field(sa_type=BigInt)
    digest: str = Field(max_length=64)


class StoredReport(SQLModel, table=True):
    """A report as it was signed: evidence, append-only."""

    __tablename__ = "report"

    device: str = Field(primary_key=True, max_length=63)
    incarnation: int = Field(primary_key=True, sa_type=BigInt)
    seq: int = Field(primary_key=True, sa_type=BigInt)
    received_ms: int = Field(sa_type=BigInt, index=True)
    arrival: str = Field(max_length=16)
    digest: str = Field(max_length=64)
    envelope: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
