"""A column that stores a `StrEnum` as its value and refuses any other word."""

from enum import StrEnum

from sqlalchemy import Dialect, String
from sqlalchemy.types import TypeDecorator


class Words(TypeDecorator[StrEnum]):
    """Text in the database, a member of one `StrEnum` in Python.

    SQLAlchemy's own `Enum` stores the *names* of the members and SQLModel does not validate
    rows; this one stores values, and raises `ValueError` on a word that is not a member in
    either direction. Made by `words`.
    """

    impl = String
    cache_ok = True

    def __init__(self, kind: type[StrEnum], length: int = 32) -> None:
        super().__init__(length)
        self.kind = kind

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Check that `value` is one of the words."""
        del dialect
        return None if value is None else self.kind(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        """Turn stored text back into the member."""
        del dialect
        return None if value is None else self.kind(value)


def words(kind: type[StrEnum]) -> Words:
    """Return the column type for `kind`: `state: State = Field(sa_type=words(State))`."""
    return Words(kind)
