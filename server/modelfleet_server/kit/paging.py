"""Cursor paging by key: as fast on the last page as on the first, stable under inserts."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel
from sqlalchemy import tuple_
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Session
from sqlmodel.sql.expression import SelectOfScalar

from modelfleet_server.kit.errors import InvalidError

Item = TypeVar("Item")
Row = TypeVar("Row")

DEFAULT_LIMIT = 100
MAX_LIMIT = 500


class Page(BaseModel, Generic[Item]):
    """Some items, and the cursor of the page after them (null on the last)."""

    items: list[Item]
    next: str | None


class Ask(NamedTuple):
    """Which page is wanted: at most `limit` rows after `cursor`."""

    limit: int = DEFAULT_LIMIT
    cursor: str | None = None


def _ask(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=512)] = None,
) -> Ask:
    return Ask(limit, cursor)


PageDep = Annotated[Ask, Depends(_ask)]


def fetch_page(
    session: Session,
    statement: SelectOfScalar[Row],
    keys: Sequence[Any],
    ask: Ask,
    *,
    newest_first: bool = False,
) -> tuple[list[Row], str | None]:
    """Return the rows of one page and the cursor of the next.

    Args:
        session: To read with.
        statement: Selects one entity, with its filters, without order and limit.
        keys: Columns of that entity that order it; never null, the last one unique.
            Only text and integers.
        ask: From `PageDep`.
        newest_first: Descending in all keys.

    Raises:
        InvalidError: The cursor is not one that a page with these keys gave.
    """
    row_key = tuple_(*keys)
    if ask.cursor is not None:
        after = tuple_(*_decode(ask.cursor, keys))
        statement = statement.where(row_key < after if newest_first else row_key > after)
    order = [key.desc() if newest_first else key.asc() for key in keys]
    found = session.exec(statement.order_by(*order).limit(ask.limit + 1)).all()
    rows = list(found[: ask.limit])
    if len(found) <= ask.limit:
        return rows, None
    return rows, _encode([getattr(rows[-1], key.key) for key in keys])


def _encode(values: list[Any]) -> str:
    text = json.dumps(values, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str, keys: Sequence[Any]) -> list[Any]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        values = None
    kinds = [_kind_of(key.type) for key in keys]
    if (
        not isinstance(values, list)
        or len(values) != len(kinds)
        or not all(type(value) is kind for value, kind in zip(values, kinds, strict=True))
    ):
        raise InvalidError(
            f"the cursor {cursor!r} is not one of this list",
            "Pass `next` of the page before, unchanged, or leave it out to start anew.",
        )
    return values


def _kind_of(column: TypeEngine[Any]) -> type:
    # SQLModel's text is a decorator, and a decorator says `object` of itself
    inner = column.impl_instance if isinstance(column, TypeDecorator) else column
    return inner.python_type
