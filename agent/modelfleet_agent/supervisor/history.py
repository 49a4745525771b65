"""What happened to each slot, for people: one JSON object per line, newest last.

A row is written where something is otherwise than the last row of the slot says, so that
a power cut costs at most the time of a row, never the row. Two files of bounded size.
The log gets the same words: `MF_SERVES slot=digits version=1.2.0 …`; codes are stable.
"""

import logging
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from modelfleet_agent import fsio
from modelfleet_agent.errors import RetryableError
from modelfleet_agent.store import Record
from modelfleet_agent.update.state import SlotState

log = logging.getLogger(__name__)

FILE, OLDER = "history", "history.older"
MOST_BYTES = 1 << 18


class Code(StrEnum):
    """Stable words of the history and of the log; never rename one."""

    SERVES = "MF_SERVES"
    EMPTY = "MF_EMPTY"
    FAILED = "MF_FAILED"
    FACTS = "MF_FACTS"


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened.

    Attributes:
        at: Unix ms of the device's clock.
        slot: Its name; "" where the whole device is meant.
        code: What happened.
        model: Of the release that serves or failed.
        version: Its version; "" where it is not known any more.
        digest: Of its files.
        method: How its files came.
        bytes: How many were fetched.
        why: Of a failure: its code, then words. Of facts: what changed.
    """

    at: int
    slot: str
    code: Code
    model: str = ""
    version: str = ""
    digest: str = ""
    method: str = ""
    bytes: int = 0
    why: str = ""


class History:
    """Notes what changed. Used by the supervisor's thread."""

    def __init__(self, directory: Path) -> None:
        """Read what is on disk; nothing is written."""
        self._path = directory / FILE
        self._older = directory / OLDER
        self._serves: dict[str, str] = {}
        self._failed: dict[str, int] = {}
        for row in read(directory):
            if row.code is Code.FAILED:
                self._failed[row.slot] = max(self._failed.get(row.slot, 0), row.at)
            elif row.slot:
                self._serves[row.slot] = row.digest

    def note(self, slot: str, settled: Record | None, state: SlotState, now: int) -> None:
        """Write what happened to `slot` since the last row."""
        rows = [
            Row(
                at=one.since,
                slot=slot,
                code=Code.FAILED,
                digest=one.digest,
                why=f"{one.code}: {one.why}",
            )
            for one in sorted(state.quarantine, key=lambda one: one.since)
            if one.since > self._failed.get(slot, 0)
        ]
        digest = settled.digest if settled else ""
        if self._serves.get(slot, "") != digest:
            rows.append(_served(slot, settled, state, now))
        for row in rows:
            self._write(row)

    def note_facts(self, changes: Sequence[str], now: int) -> None:
        """Write that the device is another one than at its last boot."""
        self._write(Row(at=now, slot="", code=Code.FACTS, why="; ".join(changes)))

    def _write(self, row: Row) -> None:
        log.info("%s", tell(row))
        try:
            if self._path.exists() and self._path.stat().st_size > MOST_BYTES:
                fsio.rename(self._path, self._older)
            with fsio.Appender(self._path) as file:
                file.write(msgspec.json.encode(row) + b"\n")
                file.sync()
        except RetryableError as error:
            log.warning("MF_DISK the history: %s", error)  # it is for people: work goes on
        if row.code is Code.FAILED:
            self._failed[row.slot] = row.at
        elif row.slot:
            self._serves[row.slot] = row.digest


def _served(slot: str, record: Record | None, state: SlotState, now: int) -> Row:
    if record is None:
        return Row(at=now, slot=slot, code=Code.EMPTY)
    mine = state.current is not None and state.current.key == record.key
    return Row(
        at=now,
        slot=slot,
        code=Code.SERVES,
        model=record.model,
        version=record.version,
        digest=record.digest,
        method=state.method if mine else "none",
        bytes=state.bytes if mine else 0,
    )


def tell(row: Row) -> str:
    """Return a row as a line of the log: a code and names with values."""
    named = msgspec.to_builtins(row)
    order = ("slot", "model", "version", "digest", "method", "bytes", "why")
    pairs = [f"{name}={named[name]}" for name in order if named.get(name)]
    return " ".join([row.code.value, *pairs])


def read(directory: Path) -> list[Row]:
    """Return all rows, oldest first; a torn line is passed over."""
    rows = []
    for name in (OLDER, FILE):
        try:
            lines = (directory / name).read_bytes().splitlines()
        except OSError:
            continue  # nothing happened yet, or the medium fails: the rest is still told
        for line in lines:
            try:
                rows.append(msgspec.json.decode(line, type=Row))
            except msgspec.MsgspecError:
                continue
    return rows
