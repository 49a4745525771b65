"""The audit log's one table; triggers refuse to change or delete a row."""

from typing import Any, ClassVar

from sqlmodel import Field, SQLModel

from modelfleet_server.kit.columns import BigInt


class AuditEntry(SQLModel, table=True):
    """One change. `seq` counts from 1 without holes."""

    __tablename__ = "audit_entry"
    __table_args__: ClassVar[Any] = {
        "info": {"append_only": True}
    }  # see migrations.triggers

    seq: int = Field(primary_key=True, sa_type=BigInt)
    at_ms: int = Field(sa_type=BigInt)
    actor: str = Field(max_length=200)
    action: str = Field(max_length=100)
    subject: str = Field(max_length=500)
    detail: str
    previous: str = Field(max_length=64)
    digest: str = Field(max_length=64)
