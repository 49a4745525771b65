"""Downloads against a real server that is cut, lies, and goes on."""

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.solo import SoloFleet
from tests.support.solo_http import Fault, FleetServer

from modelfleet_agent import fsio
from modelfleet_agent.errors import RefusedError, RetryableError, UsageError
from modelfleet_agent.link.fetch import DeltaOffer, Fetcher
from modelfleet_agent.store import Store
from modelfleet_manifests.digests import sha256

DATA = os.urandom(400_000)
DIGEST, LENGTH = sha256(DATA), len(DATA)
PATH = f"/blobs/sha256/{DIGEST}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "agent")


@pytest.fixture
def fetcher(server: FleetServer, store: Store, fleet: SoloFleet) -> Iterator[Fetcher]:
    fleet.files.add_blob(DATA)
    with closing(Fetcher(server.url, "secret", store)) as fetcher:
        yield fetcher


def cut_at(store: Store, length: int, data: bytes = DATA) -> None:
    store.incoming(DIGEST).write_bytes(data[:length])


def ranges(server: FleetServer) -> list[str | None]:
    return [one.range for one in server.requests if one.path == PATH]


def test_a_file_comes_whole_into_the_store(
    fetcher: Fetcher, server: FleetServer, store: Store
) -> None:
    told: list[tuple[int, int]] = []
    fetched = fetcher.fetch_file(
        DIGEST, LENGTH, progress=lambda done, total: told.append((done, total))
    )
    assert fetched.path.read_bytes() == DATA
    assert (fetched.received, fetched.resumed) == (LENGTH, 0)
    assert told[-1] == (LENGTH, LENGTH)
    assert told == sorted(told)
    assert not list(store.partials.iterdir())
    assert server.requests[-1].token == "Bearer secret"


def test_a_file_that_is_there_is_not_fetched_again(
    fetcher: Fetcher, server: FleetServer
) -> None:
    fetcher.fetch_file(DIGEST, LENGTH)
    count = len(server.requests)
    assert fetcher.fetch_file(DIGEST, LENGTH).received == 0
    assert len(server.requests) == count


def test_an_empty_file_is_a_file(fetcher: Fetcher, fleet: SoloFleet) -> None:
    assert fetcher.fetch_file(fleet.files.add_blob(b""), 0).path.read_bytes() == b""


def test_a_cut_connection_is_resumed_where_it_broke(
    fetcher: Fetcher, server: FleetServer
) -> None:
    server.break_next(PATH, Fault(cut=150_000), Fault(cut=100_000))
    fetched = fetcher.fetch_file(DIGEST, LENGTH)
    assert fetched.path.read_bytes() == DATA
    assert fetched.received == LENGTH  # not a byte twice
    assert ranges(server) == [None, "bytes=150000-", "bytes=250000-"]
    assert server.requests[-1].if_range == f'"{DIGEST}"'


def test_a_download_goes_on_in_a_later_call(
    fetcher: Fetcher, server: FleetServer, store: Store
) -> None:
    server.break_next(PATH, *[Fault(cut=1000)] * 2)
    with pytest.raises(RetryableError) as caught:
        fetcher.fetch_file(DIGEST, LENGTH)
    assert caught.value.code == "E_CUT"
    assert caught.value.data["received"] == 2000
    with closing(Fetcher(server.url, "secret", store)) as later:
        fetched = later.fetch_file(DIGEST, LENGTH)
    assert (fetched.received, fetched.resumed) == (LENGTH - 2000, 2000)


def test_200_for_206_starts_from_the_beginning(
    fetcher: Fetcher, server: FleetServer, store: Store
) -> None:
    cut_at(store, 1000)
    server.break_next(PATH, Fault(no_range=True))
    fetched = fetcher.fetch_file(DIGEST, LENGTH)
    assert fetched.path.read_bytes() == DATA
    assert (fetched.received, fetched.resumed) == (LENGTH, 0)


@pytest.mark.parametrize("obeys", [True, False], ids=["if-range", "no-if-range"])
def test_a_changed_etag_starts_from_the_beginning(
    fetcher: Fetcher, server: FleetServer, obeys: bool
) -> None:
    server.break_next(
        PATH,
        Fault(cut=150_000, etag='"old"'),
        Fault(etag='"new"', ignore_if_range=not obeys),
    )
    fetched = fetcher.fetch_file(DIGEST, LENGTH)
    assert fetched.path.read_bytes() == DATA


@pytest.mark.parametrize(
    "text",
    [
        f"bytes 0-{LENGTH - 1}/{LENGTH}",
        f"bytes 1000-{LENGTH}/{LENGTH + 1}",
        "bytes 1000-1999/*",
        "nonsense",
    ],
)
def test_a_wrong_content_range_starts_from_the_beginning(
    fetcher: Fetcher, server: FleetServer, store: Store, text: str
) -> None:
    cut_at(store, 1000)
    server.break_next(PATH, Fault(range_text=text))
    assert fetcher.fetch_file(DIGEST, LENGTH).path.read_bytes() == DATA
    assert ranges(server) == ["bytes=1000-", None]


def test_a_longer_body_is_never_accepted(
    fetcher: Fetcher, server: FleetServer, store: Store
) -> None:
    server.break_next(PATH, Fault(body=DATA + b"x"))
    with pytest.raises(RefusedError) as caught:
        fetcher.fetch_file(DIGEST, LENGTH)
    assert caught.value.code == "E_LENGTH"
    assert not list(store.partials.iterdir())
    assert not list(store.files.iterdir())


def test_a_tampered_blob_is_refused(
    fetcher: Fetcher, server: FleetServer, store: Store
) -> None:
    server.break_next(PATH, Fault(body=bytes([DATA[0] ^ 1]) + DATA[1:]))
    with pytest.raises(RefusedError) as caught:
        fetcher.fetch_file(DIGEST, LENGTH)
    assert caught.value.code == "E_DIGEST"
    assert not list(store.files.iterdir())
    assert fetcher.fetch_file(DIGEST, LENGTH).path.read_bytes() == DATA


def test_what_rotted_before_a_resume_is_fetched_once_more(
    fetcher: Fetcher, server: FleetServer, store: Store
) -> None:
    cut_at(store, 1000, bytes(1000))  # zeros, as after a power cut
    fetched = fetcher.fetch_file(DIGEST, LENGTH)
    assert fetched.path.read_bytes() == DATA
    assert ranges(server) == ["bytes=1000-", None]


def test_a_partial_file_longer_than_signed_is_thrown_away(
    fetcher: Fetcher, store: Store
) -> None:
    cut_at(store, LENGTH, DATA)
    with store.incoming(DIGEST).open("ab") as file:
        file.write(b"more")
    assert fetcher.fetch_file(DIGEST, LENGTH).path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("fault", "code"), [(Fault(status=404), "E_NOT_FOUND"), (Fault(status=503), "E_HTTP")]
)
def test_a_server_that_says_no_is_asked_later(
    fetcher: Fetcher, server: FleetServer, fault: Fault, code: str
) -> None:
    server.break_next(PATH, fault)
    with pytest.raises(RetryableError) as caught:
        fetcher.fetch_file(DIGEST, LENGTH)
    assert caught.value.code == code


def test_an_unreachable_server_is_asked_later(store: Store) -> None:
    with pytest.raises(RetryableError) as caught:
        Fetcher("http://127.0.0.1:1", "", store).fetch_file(DIGEST, LENGTH)
    assert caught.value.code == "E_UNREACHABLE"


def test_a_cancelled_download_keeps_its_part(
    fetcher: Fetcher, server: FleetServer, store: Store
) -> None:
    cancel = threading.Event()
    with pytest.raises(RetryableError) as caught:
        fetcher.fetch_file(
            DIGEST, LENGTH, cancel=cancel, progress=lambda _done, _total: cancel.set()
        )
    assert caught.value.code == "E_CANCELLED"
    part = store.incoming(DIGEST).read_bytes()
    assert 0 < len(part) < LENGTH
    assert DATA.startswith(part)
    assert fetcher.fetch_file(DIGEST, LENGTH).resumed == len(part)


def test_a_file_that_does_not_fit_is_not_begun(
    server: FleetServer, store: Store, fleet: SoloFleet
) -> None:
    greedy = Fetcher(server.url, "", store, reserve=1 << 60)
    with pytest.raises(RetryableError) as caught:
        greedy.fetch_file(DIGEST, LENGTH)
    assert caught.value.code == "E_NO_SPACE"
    assert ranges(server) == []


def test_a_disk_that_fills_up_keeps_nothing_broken(fetcher: Fetcher, store: Store) -> None:
    writes = 0

    def fill(operation: str, path: Path) -> None:
        nonlocal writes
        if operation == "write" and path == store.incoming(DIGEST):
            writes += 1
            if writes == 3:
                raise RetryableError("E_NO_SPACE", f"cannot write {path}")

    stop = fsio.watch(fill)
    try:
        with pytest.raises(RetryableError) as caught:
            fetcher.fetch_file(DIGEST, LENGTH)
    finally:
        stop()
    assert caught.value.code == "E_NO_SPACE"
    assert not list(store.partials.iterdir())
    assert fetcher.fetch_file(DIGEST, LENGTH).path.read_bytes() == DATA


def test_a_digest_that_climbs_out_is_no_digest(fetcher: Fetcher) -> None:
    with pytest.raises(UsageError):
        fetcher.fetch_file("../../etc/passwd", 1)


def test_an_idle_connection_that_the_server_closed_is_opened_again(
    fetcher: Fetcher, server: FleetServer, fleet: SoloFleet
) -> None:
    server.break_next(PATH, Fault(cut=LENGTH))  # whole, but closed behind
    fetcher.fetch_file(DIGEST, LENGTH)
    other = fleet.files.add_blob(b"other")
    assert fetcher.fetch_file(other, 5).path.read_bytes() == b"other"


def test_a_patch_is_offered_and_fetched_into_incoming(
    fetcher: Fetcher, fleet: SoloFleet, store: Store
) -> None:
    old = "e" * 64
    fleet.files.add_delta(DIGEST, old, b"patch bytes")
    offer = fetcher.get_delta_offer(DIGEST, old)
    assert offer == DeltaOffer(
        blob=sha256(b"patch bytes"), length=11, method="td1", memory=1 << 20
    )
    fetched = fetcher.fetch_patch(offer)
    assert fetched.path.read_bytes() == b"patch bytes"
    assert fetched.path.parent == store.partials


def test_without_a_patch_there_is_no_offer(fetcher: Fetcher) -> None:
    assert fetcher.get_delta_offer(DIGEST, "e" * 64) is None


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no json", b'{"blob": "x"}'])
def test_an_offer_that_is_none_is_refused(
    fetcher: Fetcher, server: FleetServer, fleet: SoloFleet, body: bytes
) -> None:
    fleet.files.add_delta(DIGEST, "e" * 64, b"p")
    server.break_next(f"/deltas/{DIGEST}/{'e' * 64}", Fault(body=body))
    with pytest.raises(RetryableError) as caught:
        fetcher.get_delta_offer(DIGEST, "e" * 64)
    assert caught.value.code == "E_ANSWER"


def test_a_patch_with_other_bytes_is_refused(
    fetcher: Fetcher, server: FleetServer, fleet: SoloFleet, store: Store
) -> None:
    digest = fleet.files.add_blob(b"patch")
    server.break_next(f"/blobs/sha256/{digest}", Fault(body=b"PATCH"))
    offer = DeltaOffer(blob=digest, length=5, method="td1", memory=0)
    with pytest.raises(RefusedError) as caught:
        fetcher.fetch_patch(offer)
    assert caught.value.code == "E_DIGEST"
    assert not list(store.partials.iterdir())
