"""What an answer to a (ranged) request means for a download; pure."""

import re
from collections.abc import Mapping
from enum import StrEnum

_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
OK, PARTIAL, NOT_FOUND, UNSATISFIABLE = 200, 206, 404, 416


class Reading(StrEnum):
    """What to do with an answer."""

    APPEND = "append"
    RESTART = "restart"
    AGAIN = "again"
    TOO_LONG = "too-long"
    NOT_FOUND = "not-found"
    FAILED = "failed"


def read_answer(
    status: int,
    headers: Mapping[str, str],
    asked: tuple[int, int],
    length: int,
    etag: str,
) -> Reading:
    """Return what an answer means.

    Args:
        status: Of the answer.
        headers: Of the answer, their names in lower case.
        asked: The range that is wanted, its end excluded; it was asked for as one where
            it is not the whole file.
        length: Bytes that were signed.
        etag: That the bytes on disk came with, or empty.

    Returns:
        `APPEND`: the body is the range. `RESTART`: the body is the whole file.
        `AGAIN`: what is on disk is of no use, ask for everything. Others are failures.
    """
    ranged = asked != (0, length)
    if status == NOT_FOUND:
        return Reading.NOT_FOUND
    if status == UNSATISFIABLE and ranged:
        return Reading.AGAIN
    if status == PARTIAL and ranged:
        fits = _fits(headers, asked, length) and _is_same(headers, etag)
        return Reading.APPEND if fits else Reading.AGAIN
    if status != OK:
        return Reading.FAILED
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) != length:
        return Reading.TOO_LONG
    return Reading.RESTART


def _fits(headers: Mapping[str, str], asked: tuple[int, int], length: int) -> bool:
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    start, end = asked
    return found is not None and tuple(map(int, found.groups())) == (start, end - 1, length)


def _is_same(headers: Mapping[str, str], etag: str) -> bool:
    return not etag or headers.get("etag", etag) == etag
