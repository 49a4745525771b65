"""Column types that mean the same on SQLite and PostgreSQL."""

from sqlalchemy import BigInteger, Integer

BigInt = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits everywhere; on SQLite it may still be a primary key that counts up by itself.

`stamp_ms: int = Field(sa_type=BigInt)`. A plain `int` column is 32 bits on PostgreSQL,
which is too little for milliseconds, counters and byte counts.
"""
