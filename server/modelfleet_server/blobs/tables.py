"""The index of the object store."""

from sqlmodel import Field, SQLModel

from modelfleet_server.kit.columns import BigInt


class StoredBlob(SQLModel, table=True):
    """One row per blob that a transaction wanted kept.

    The object store is the truth about bytes; this says which are wanted, since when.
    """

    __tablename__ = "blob"

    digest: str = Field(primary_key=True, max_length=64)
    length: int = Field(sa_type=BigInt)
    created_ms: int = Field(sa_type=BigInt)
