"""What is served is a TUF repository that a client from PyPI can use, unmodified."""

import json
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from tests.support.fleet import NOW, FleetUnderTest, id_of
from tuf.api.exceptions import RepositoryError
from tuf.ngclient import Updater

import modelfleet_manifests.tuf_keys  # noqa: F401 all that a client has to add: our keys
from modelfleet_manifests.release import read_release
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.kit.db import Database
from modelfleet_server.trust import store
from modelfleet_server.trust.publishing import keep_fresh


def _client(url: str, folder: Path) -> Updater:
    metadata, targets = folder / "metadata", folder / "targets"
    targets.mkdir(parents=True, exist_ok=True)
    root = httpx2.get(f"{url}/tuf/metadata/1.root.json").content
    return Updater(
        str(metadata),
        f"{url}/tuf/metadata/",
        str(targets),
        f"{url}/tuf/targets/",
        bootstrap=root,
    )


def test_an_unmodified_client_finds_and_fetches_a_release(
    url: str, database: Database, fresh: FleetUnderTest, tmp_path: Path
) -> None:
    with database.write() as session:
        release = fresh.release(session, now_ms=now_ms())
    client = _client(url, tmp_path / "client")
    found = client.get_targetinfo("m/demo/digits/1.0.0/release.json")
    assert found is not None
    path = Path(client.download_target(found))
    assert read_release(path.read_bytes()) == release
    assert client.get_targetinfo("m/demo/digits/2.0.0/release.json") is None


def test_a_client_learns_of_new_releases_recalls_and_fresh_timestamps(
    url: str, database: Database, fresh: FleetUnderTest, tmp_path: Path
) -> None:
    now = now_ms()
    with database.write() as session:
        first = fresh.release(session, now_ms=now)
    _client(url, tmp_path / "client").refresh()
    with database.write() as session:
        fresh.release(session, "1.1.0", now_ms=now)
        fresh.recall(session, id_of(first), now_ms=now)
        assert keep_fresh(session, fresh.publisher.signer, now + 86_400_000)
    client = _client(url, tmp_path / "client")
    assert client.get_targetinfo("m/demo/digits/1.1.0/release.json") is not None
    stone = client.get_targetinfo(f"tombstone/block/release/{id_of(first)}")
    assert stone is not None
    assert stone.custom == {"reason": "tested too little"}
    assert Path(client.download_target(stone)).read_bytes() == b""


def test_a_release_changed_in_the_database_is_refused_by_the_client(
    url: str, database: Database, fresh: FleetUnderTest, tmp_path: Path
) -> None:
    with database.write() as session:
        release = fresh.release(session, now_ms=now_ms())
        row = store.find_release(session, id_of(release))
        assert row is not None
        row.data = row.data.replace(b'"0.98"', b'"0.99"')
        session.add(row)
    client = _client(url, tmp_path / "client")
    found = client.get_targetinfo("m/demo/digits/1.0.0/release.json")
    assert found is not None
    with pytest.raises(RepositoryError):
        client.download_target(found)


def test_a_role_signed_by_the_server_alone_is_refused_by_the_client(
    url: str, database: Database, fresh: FleetUnderTest, tmp_path: Path
) -> None:
    with database.write() as session:
        fresh.release(session, now_ms=now_ms())
        row = store.find_newest(session, "demo/digits")
        assert row is not None
        value = json.loads(row.data)
        value["signed"]["expires"] = "2099-01-01T00:00:00Z"
        row.data = json.dumps(value).encode()
        session.add(row)
    with pytest.raises(RepositoryError):
        _client(url, tmp_path / "c").get_targetinfo("m/demo/digits/1.0.0/release.json")


def test_versioned_files_are_cached_for_ever_and_the_timestamp_is_asked_for_again(
    url: str, database: Database, fleet: FleetUnderTest
) -> None:
    with database.write() as session:
        release = fleet.release(session)
    forever = "public, max-age=31536000, immutable"
    name = quote("1.demo/digits.json", safe="")
    path = f"m/demo/digits/1.0.0/{id_of(release)}.release.json"
    for address, kept in (
        (f"metadata/{name}", forever),
        (f"targets/{path}", forever),
        ("metadata/timestamp.json", "public, no-cache"),
    ):
        answer = httpx2.get(f"{url}/tuf/{address}")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, kept)
        again = httpx2.get(
            f"{url}/tuf/{address}", headers={"If-None-Match": answer.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name",
    [
        "metadata/root.json",
        "metadata/1.timestamp.json",
        "metadata/99.root.json",
        "metadata/0.root.json",
        "metadata/1.demo%2F..%2F..%2Froot.json",
        "metadata/99999999999999999999.root.json",
        "metadata/1.root",
        "targets/m/demo/digits/1.0.0/release.json",
        "targets/x.release.json",
        "targets/",
    ],
)
def test_what_is_not_in_the_repository_is_not_found(
    url: str, fleet: FleetUnderTest, name: str
) -> None:
    answer = httpx2.get(f"{url}/tuf/{name}")
    assert answer.status_code == 404
    assert answer.json()["code"] == "not-found"


def test_snapshot_and_timestamp_are_signed_anew_once_a_day(
    database: Database, fleet: FleetUnderTest
) -> None:
    day = 86_400_000
    with database.write() as session:
        assert not keep_fresh(session, fleet.publisher.signer, NOW + day - 1)
        assert keep_fresh(session, fleet.publisher.signer, NOW + day)
        assert not keep_fresh(session, fleet.publisher.signer, NOW + day)
        assert store.minimum(session).timestamp == 2
        for number in range(2, 12):
            assert keep_fresh(session, fleet.publisher.signer, NOW + number * day)
        assert store.find(session, "snapshot", 1) is None
        assert store.find(session, "root", 1) is not None
