"""What the signer verified and signed before: a small SQLite file beside the keys.

It makes a signer more than a key: what was signed once is not signed otherwise, also not
after a restart, and what was settled is not taken back.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from modelfleet_manifests.header import Order

KEPT = 32
"""Snapshots and timestamps that are remembered: the base of the next is among them."""

_TABLES = """
create table if not exists role
    (name text, version integer, data blob, primary key (name, version)) without rowid;
create table if not exists topic
    (topic text primary key, epoch integer, counter integer, digest text) without rowid;
create table if not exists signed
    (role text, version integer, digest text, file text, names text,
     primary key (role, version)) without rowid;
create table if not exists settled
    (role text primary key, version integer) without rowid;
"""


class Held(NamedTuple):
    """The newest verified file of a role."""

    version: int
    data: bytes


class Kept(NamedTuple):
    """A snapshot or timestamp that was signed.

    Attributes:
        digest: SHA-256 of the payload.
        file: SHA-256 of the file with its signature.
        names: For a snapshot: versions by role.
    """

    version: int
    digest: str
    file: str
    names: Mapping[str, int]


class Memory:
    """One writer at a time; the caller sees to that.

    Args:
        path: Of the file; None keeps all in memory, for a ceremony.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._base = sqlite3.connect(
            ":memory:" if path is None else path, check_same_thread=False, timeout=20
        )
        self._base.isolation_level = None
        self._base.execute("pragma journal_mode = wal")
        self._base.execute("pragma synchronous = normal")
        self._base.executescript(_TABLES)

    def close(self) -> None:
        """Fold the write-ahead log into the file."""
        self._base.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Keep all that is noted inside, or nothing where it raises."""
        self._base.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._base.execute("rollback")
            raise
        self._base.execute("commit")

    def held(self, role: str) -> Held | None:
        """Return the newest verified file of a role."""
        row = self._base.execute(
            "select version, data from role where name = ? order by version desc limit 1",
            (role,),
        ).fetchone()
        return None if row is None else Held(*row)

    def is_known(self, role: str, version: int) -> bool:
        """Say whether this version of a role was verified."""
        found = self._base.execute(
            "select 1 from role where name = ? and version = ?", (role, version)
        )
        return found.fetchone() is not None

    def hold(self, role: str, version: int, data: bytes) -> None:
        """Remember a verified file; of those before it only that there was one."""
        self._base.execute("update role set data = null where name = ?", (role,))
        self._base.execute(
            "insert or replace into role values (?, ?, ?)", (role, version, data)
        )

    def last(self, role: str) -> Kept | None:
        """Return the snapshot or timestamp that was signed last."""
        row = self._base.execute(
            "select version, digest, file, names from signed where role = ?"
            " order by version desc limit 1",
            (role,),
        ).fetchone()
        return None if row is None else _kept(row)

    def find(self, role: str, version: int) -> Kept | None:
        """Return the snapshot or timestamp of this version, if it was signed lately."""
        row = self._base.execute(
            "select version, digest, file, names from signed"
            " where role = ? and version = ?",
            (role, version),
        ).fetchone()
        return None if row is None else _kept(row)

    def keep(self, role: str, kept: Kept) -> None:
        """Remember that a snapshot or timestamp was signed."""
        values = (role, kept.version, kept.digest, kept.file, json.dumps(dict(kept.names)))
        self._base.execute("insert or replace into signed values (?, ?, ?, ?, ?)", values)
        self._base.execute(
            "delete from signed where role = ? and version <= ?",
            (role, kept.version - KEPT),
        )

    def settled(self) -> dict[str, int]:
        """Return the lowest version that a snapshot may name, by role."""
        return dict(self._base.execute("select role, version from settled"))

    def settle(self, names: Mapping[str, int]) -> None:
        """Let no snapshot name anything lower than `names` from now on."""
        self._base.executemany(
            "insert into settled values (?, ?) on conflict (role)"
            " do update set version = max(version, excluded.version)",
            names.items(),
        )

    def order(self, topic: str) -> tuple[Order, str] | None:
        """Return order and digest of the last document of a topic."""
        row = self._base.execute(
            "select epoch, counter, digest from topic where topic = ?", (topic,)
        ).fetchone()
        return None if row is None else (Order(row[0], row[1]), row[2])

    def note(self, topic: str, order: Order, digest: str) -> None:
        """Remember the last document of a topic."""
        self._base.execute(
            "insert or replace into topic values (?, ?, ?, ?)", (topic, *order, digest)
        )


def _kept(row: tuple[int, str, str, str]) -> Kept:
    return Kept(row[0], row[1], row[2], json.loads(row[3]))
