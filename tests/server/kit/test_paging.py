"""Cursor paging: every row once, in order, whatever is inserted meanwhile."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, col, select

from modelfleet_server.audit.service import record
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.kit.paging import Ask, fetch_page

KEYS = [col(AuditEntry.at_ms), col(AuditEntry.seq)]


def fill(session: Session, times: list[int]) -> None:
    for at_ms in times:
        record(session, "system:test", "note.written", "note", {}, at_ms=at_ms)


def walk(session: Session, limit: int, *, newest_first: bool = False) -> list[int]:
    found, cursor = [], None
    while True:
        rows, cursor = fetch_page(
            session, select(AuditEntry), KEYS, Ask(limit, cursor), newest_first=newest_first
        )
        assert len(rows) <= limit
        found += [row.seq for row in rows]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 100])
@pytest.mark.parametrize("newest_first", [False, True])
def test_pages_hold_every_row_once_in_the_order_of_the_keys(
    database: Database, limit: int, newest_first: bool
) -> None:
    with database.write() as session:
        fill(session, [30, 10, 10, 20, 10])  # equal first keys: the second decides
        expected = [2, 3, 5, 4, 1]
        found = walk(session, limit, newest_first=newest_first)
    assert found == (expected[::-1] if newest_first else expected)


def test_a_row_inserted_between_two_pages_neither_repeats_nor_hides_others(
    database: Database,
) -> None:
    with database.write() as session:
        fill(session, [10, 20, 30])
        first, cursor = fetch_page(session, select(AuditEntry), KEYS, Ask(2))
        fill(session, [5])
        rest, end = fetch_page(session, select(AuditEntry), KEYS, Ask(2, cursor))
    assert [row.at_ms for row in first] == [10, 20]
    assert [row.at_ms for row in rest] == [30]
    assert end is None


@given(cursor=st.text(max_size=40))
def test_a_cursor_that_no_page_gave_is_refused(cursor: str) -> None:
    with Session() as session, pytest.raises(InvalidError, match="cursor"):
        fetch_page(session, select(AuditEntry), KEYS, Ask(2, cursor))


@pytest.mark.parametrize("values", ["[1]", "[1,2,3]", '["1",2]', "[true,1]", "{}", "null"])
def test_a_cursor_of_another_list_is_refused(values: str) -> None:
    cursor = base64.urlsafe_b64encode(values.encode()).decode()
    with Session() as session, pytest.raises(InvalidError, match="cursor"):
        fetch_page(session, select(AuditEntry), KEYS, Ask(2, cursor))
