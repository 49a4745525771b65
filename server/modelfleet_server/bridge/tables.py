"""The outbox: one row per retained topic, and what the server remembers of the broker."""

from typing import Any, ClassVar

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from modelfleet_server.kit.columns import BigInt

_PENDING = text("published < revision")


class Outbox(SQLModel, table=True):
    """The newest payload of one retained topic.

    Rows stay, also with an empty payload (which clears the topic): a broker that falls back
    to an old snapshot holds the cleared payload again, and has to be told once more.

    Attributes:
        topic: Without wildcards.
        payload: At most 256 KiB; empty clears the topic.
        revision: Rises over the whole table with each change, in the order of commits.
        published: The newest revision of this topic that the broker acknowledged, or 0.
    """

    __tablename__ = "outbox"
    __table_args__: ClassVar[Any] = (
        Index(
            "ix_outbox_pending",
            "revision",
            sqlite_where=_PENDING,
            postgresql_where=_PENDING,
        ),
    )

    topic: str = Field(primary_key=True, max_length=255)
    payload: bytes
    revision: int = Field(sa_type=BigInt, unique=True)
    published: int = Field(default=0, sa_type=BigInt)


class BridgeState(SQLModel, table=True):
    """What one bridge process keeps between its lives.

    Attributes:
        name: Of the process; `bridge` where there is only one.
        client_id: Under which the broker keeps what was not acknowledged yet.
        floor: Highest epoch ever heard from a broker; revisions are above it.
    """

    __tablename__ = "bridge_state"

    name: str = Field(primary_key=True, max_length=63)
    client_id: str = Field(max_length=64)
    floor: int = Field(default=0, sa_type=BigInt)
