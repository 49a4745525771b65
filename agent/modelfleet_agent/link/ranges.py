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
    status: int, headers: Mapping[str, str], have: int, length: int, etag: str
) -> Reading:
    """Return what an answer means.

    Args:
        status: Of the answer.
        headers: Of the answer, their names in lower case.
        have: Bytes that are on disk; a range from there was asked for if it is above 0.
        length: Bytes that were signed.
        etag: That the bytes on disk came with, or empty.

    Returns:
        `APPEND`: the body goes on behind `have`. `RESTART`: the body is the whole file.
        `AGAIN`: what is on disk is of no use, ask for everything. Others are failures.
    """
    if status == NOT_FOUND:
        return Reading.NOT_FOUND
    if status == UNSATISFIABLE and have:
        return Reading.AGAIN
    if status == PARTIAL and have:
        fits = _fits(headers, have, length) and _is_same(headers, etag)
        return Reading.APPEND if fits else Reading.AGAIN
    if status != OK:
        return Reading.FAILED
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) != length:
        return Reading.TOO_LONG
    return Reading.RESTART


def _fits(headers: Mapping[str, str], have: int, length: int) -> bool:
    found = _RANGE.fullmatch(headers.get("content-range", ""))
    return found is not None and tuple(map(int, found.groups())) == (
        have,
        length - 1,
        length,
    )


def _is_same(headers: Mapping[str, str], etag: str) -> bool:
    return not etag or headers.get("etag", etag) == etag
