"""Bytes by digest: put once, never changed, all or nothing."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlmodel import select

from modelfleet_server.blobs import service
from modelfleet_server.blobs.service import Blob, BlobStore, TooLargeError, WrongDigestError
from modelfleet_server.blobs.tables import StoredBlob
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import NotFoundError

# the same in every process; nothing in it repeats
DATA = hashlib.shake_256(b"blob").digest(3 * service.CHUNK + 17)
DIGEST = hashlib.sha256(DATA).hexdigest()
OTHER = "0" * 64


@pytest.fixture(params=["directory", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """A directory store, and obstore's in-memory bucket, which knows no local paths."""
    url = (tmp_path / "blobs").as_uri() if request.param == "directory" else "memory:///"
    return BlobStore(url, tmp_path / "incoming")


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def test_bytes_come_back_under_their_digest(store: BlobStore) -> None:
    assert store.put(DATA) == Blob(DIGEST, len(DATA))
    assert store.read(DIGEST) == DATA
    assert store.get(DIGEST) == Blob(DIGEST, len(DATA))


def test_a_file_is_stored_by_its_contents(store: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(DATA)
    assert store.put(path, DIGEST).digest == DIGEST
    assert path.read_bytes() == DATA
    assert store.exists(DIGEST)


def test_an_empty_blob_is_a_blob(store: BlobStore) -> None:
    empty = store.put(b"")
    assert empty.length == 0
    assert store.read(empty.digest) == b""


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 1), (5, 5), (0, None), (service.CHUNK - 1, service.CHUNK + 1), (7, 10**9)],
)
def test_any_range_can_be_read(store: BlobStore, start: int, end: int | None) -> None:
    store.put(DATA)
    assert b"".join(store.open_range(DIGEST, start, end)) == DATA[start:end]


def test_a_wrong_digest_stores_nothing_and_leaves_nothing(
    store: BlobStore, tmp_path: Path
) -> None:
    with pytest.raises(WrongDigestError) as caught:
        store.put(DATA, OTHER)
    assert caught.value.data == {"expected": OTHER, "found": DIGEST}
    assert not store.exists(OTHER)
    assert not store.exists(DIGEST)
    assert list(files_below(tmp_path)) == []


def test_too_many_bytes_are_cut_off_early(store: BlobStore, tmp_path: Path) -> None:
    with store.receive(cap=10) as incoming:
        incoming.write(b"12345")
        with pytest.raises(TooLargeError, match="10 bytes"):
            incoming.write(b"678901")
    assert list(files_below(tmp_path)) == []


def test_what_is_here_already_is_never_written_again(blobs: BlobStore) -> None:
    blobs.put(DATA)
    path = blobs.path_of(DIGEST)
    before = path.stat()
    blobs.put(DATA)
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert after.st_mode & 0o222 == 0


def test_many_who_put_the_same_bytes_at_once_all_succeed(store: BlobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(store.put, [DATA] * 16))
    assert set(found) == {Blob(DIGEST, len(DATA))}
    assert store.read(DIGEST) == DATA


def test_a_local_path_holds_the_bytes(store: BlobStore, tmp_path: Path) -> None:
    store.put(DATA)
    path = store.path_of(DIGEST)
    assert path.read_bytes() == DATA
    assert store.path_of(DIGEST) == path
    assert not [f for f in files_below(tmp_path / "incoming") if f.name != DIGEST]


def test_what_is_not_here_is_named(store: BlobStore) -> None:
    for ask in (store.get, store.read, store.open_range, store.path_of):
        with pytest.raises(NotFoundError, match=OTHER):
            ask(OTHER)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", DIGEST.upper(), DIGEST[:-1]])
def test_what_is_not_a_digest_is_not_here(store: BlobStore, name: str) -> None:
    store.put(DATA)
    assert store.find(name) is None


def test_a_row_is_kept_once_with_its_first_time(database: Database) -> None:
    for at_ms in (10, 20):
        with database.write() as session:
            service.keep(session, Blob(DIGEST, len(DATA)), at_ms=at_ms)
    with database.read() as session:
        row = session.exec(select(StoredBlob)).one()
    assert (row.digest, row.length, row.created_ms) == (DIGEST, len(DATA), 10)
