"""Users and what stands for them. No password and no token is stored, only hashes."""

from sqlmodel import Field, SQLModel

from modelfleet_server.identity.domain import TokenKind
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.columns import BigInt
from modelfleet_server.kit.words import words


class User(SQLModel, table=True):
    """Somebody who may log in. Disabled, never deleted: the audit log names them."""

    __tablename__ = "users"

    name: str = Field(primary_key=True, max_length=63)
    role: Role = Field(sa_type=words(Role))
    password_hash: str = Field(max_length=200)
    disabled: bool = False
    created_ms: int = Field(sa_type=BigInt)


class AccessToken(SQLModel, table=True):
    """A random secret that stands for a user until it expires or is revoked."""

    __tablename__ = "access_token"

    id: str = Field(primary_key=True, max_length=32)
    user: str = Field(foreign_key="users.name", max_length=63, index=True)
    kind: TokenKind = Field(sa_type=words(TokenKind))
    name: str = Field(max_length=100)
    fingerprint: str = Field(max_length=64, unique=True)
    created_ms: int = Field(sa_type=BigInt)
    expires_ms: int = Field(sa_type=BigInt)
    revoked_ms: int | None = Field(default=None, sa_type=BigInt)
