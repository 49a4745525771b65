"""Blobs over HTTP: ranges, caching, uploads that are checked."""

import hashlib
import os
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from sqlmodel import select
from tests.support.server import ServerUnderTest

from modelfleet_server.blobs.tables import StoredBlob
from modelfleet_server.kit.access import Role

DATA = os.urandom(3_000_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
PATH = f"/blobs/sha256/{DIGEST}"


@pytest.fixture
def client(server: ServerUnderTest) -> httpx2.Client:
    server.blobs.put(DATA)
    return server.client()


def test_anybody_reads_a_blob_and_may_keep_it_forever(client: httpx2.Client) -> None:
    answer = client.get(PATH)
    assert answer.content == DATA
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-length"] == str(len(DATA))


def test_a_head_tells_the_length_and_sends_nothing(client: httpx2.Client) -> None:
    answer = client.head(PATH)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["accept-ranges"] == "bytes"


def test_a_range_is_sent_as_such(client: httpx2.Client) -> None:
    answer = client.get(PATH, headers={"Range": "bytes=1000000-"})
    assert answer.status_code == 206
    assert answer.content == DATA[1_000_000:]
    assert answer.headers["content-range"] == f"bytes 1000000-2999999/{len(DATA)}"


def test_a_range_behind_the_end_is_refused_with_the_length(client: httpx2.Client) -> None:
    answer = client.get(PATH, headers={"Range": f"bytes={len(DATA)}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(DATA)}"


def test_a_range_of_another_blob_gets_the_whole_one(client: httpx2.Client) -> None:
    headers = {"Range": "bytes=5-", "If-Range": '"another"'}
    assert client.get(PATH, headers=headers).content == DATA
    headers["If-Range"] = f'"{DIGEST}"'
    assert client.get(PATH, headers=headers).status_code == 206


def test_a_blob_that_is_known_is_not_sent_again(client: httpx2.Client) -> None:
    answer = client.get(PATH, headers={"If-None-Match": f'"{DIGEST}"'})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize("name", ["0" * 64, "0" * 63, "..%2f..%2fmodelfleet.db"])
def test_what_is_not_here_is_a_problem(client: httpx2.Client, name: str) -> None:
    answer = client.get(f"/blobs/sha256/{name}")
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == "application/problem+json"


def pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


def test_an_operator_uploads_in_pieces_and_may_repeat_it(server: ServerUnderTest) -> None:
    client = server.client(Role.OPERATOR)
    for _ in range(2):
        answer = client.put(f"/api/v1{PATH}", content=pieces(DATA))
        assert answer.status_code == 201
        assert answer.json() == {"digest": DIGEST, "length": len(DATA)}
    assert server.client().get(PATH).content == DATA
    with server.database.read() as session:
        assert [row.digest for row in session.exec(select(StoredBlob))] == [DIGEST]


def test_an_upload_with_another_digest_leaves_nothing(
    server: ServerUnderTest, tmp_path: Path
) -> None:
    other = "0" * 64
    answer = server.client(Role.OPERATOR).put(
        f"/api/v1/blobs/sha256/{other}", content=pieces(DATA)
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "wrong-digest")
    assert answer.json()["found"] == DIGEST
    home = server.server.settings.home
    assert not [path for path in (home / "blobs").rglob("*") if path.is_file()]
    assert list((home / "incoming").iterdir()) == []
    with server.database.read() as session:
        assert session.exec(select(StoredBlob)).all() == []


def test_an_upload_that_breaks_off_leaves_nothing(server: ServerUnderTest) -> None:
    address = urlsplit(server.url)
    connection = HTTPConnection(address.hostname or "", address.port or 0, timeout=10)
    connection.putrequest("PUT", f"/api/v1{PATH}")
    connection.putheader("Authorization", f"Bearer {server.token(Role.OPERATOR)}")
    connection.putheader("Content-Length", str(len(DATA)))
    connection.endheaders(DATA[:1_000_000])
    connection.close()
    server.stop()  # waits for what is in hand
    incoming = server.server.settings.scratch
    assert list(incoming.iterdir()) == []
    assert not server.blobs.exists(DIGEST)


@pytest.mark.parametrize("role", [None, Role.VIEWER, Role.TECHNICIAN])
def test_others_may_not_upload(server: ServerUnderTest, role: Role | None) -> None:
    answer = server.client(role).put(f"/api/v1{PATH}", content=b"x")
    assert answer.status_code == (401 if role is None else 403)
    assert not server.blobs.exists(DIGEST)
