"""Files by digest, and records that are believed only when they are whole."""

import hashlib
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent import models
from tests.agent.store.conftest import MakeRecord

from modelfleet_agent.errors import RefusedError, RetryableError, UsageError
from modelfleet_agent.store import FileEntry, Record, Store
from modelfleet_agent.store.record import decode, encode, files_digest
from modelfleet_manifests import release

DIGESTS = st.binary(max_size=8).map(lambda data: hashlib.sha256(data).hexdigest())
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
ENTRIES = st.builds(FileEntry, NAMES, DIGESTS, st.integers(0, 2**53))
RECORDS = st.builds(
    Record,
    release=DIGESTS,
    model=st.just("demo/digits"),
    version=st.just("1.0.0"),
    profile=st.just("generic"),
    files=st.lists(ENTRIES, min_size=1, max_size=4, unique_by=lambda e: e.name).map(tuple),
    golden=st.none() | ENTRIES,
    atol=st.just("0.001"),
)


def test_a_complete_download_becomes_a_read_only_file(store: Store) -> None:
    entry = models.put(store, "model.onnx", b"bytes")
    path = store.path_of(entry.digest)
    assert path.read_bytes() == b"bytes"
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert not store.incoming(entry.digest).exists()


def test_other_bytes_than_signed_are_refused_and_removed(store: Store) -> None:
    digest = hashlib.sha256(b"signed").hexdigest()
    store.incoming(digest).write_bytes(b"forged")
    with pytest.raises(RefusedError) as caught:
        store.adopt(digest, 6)
    assert caught.value.code == "E_DIGEST"
    assert not store.path_of(digest).exists()
    assert not store.incoming(digest).exists()


def test_the_right_digest_with_another_length_is_refused(store: Store) -> None:
    digest = hashlib.sha256(b"signed").hexdigest()
    store.incoming(digest).write_bytes(b"signed")
    with pytest.raises(RefusedError, match="E_DIGEST"):
        store.adopt(digest, 7)


def test_adopting_twice_is_adopting_once(store: Store) -> None:
    entry = models.put(store, "a", b"bytes")
    assert store.adopt(entry.digest, entry.length) == store.path_of(entry.digest)
    with pytest.raises(RetryableError, match="E_MISSING"):
        store.adopt(hashlib.sha256(b"never came").hexdigest(), 10)


@pytest.mark.parametrize("name", ["../keys", "/etc/passwd", "", "A" * 64, "0" * 63])
def test_only_digests_name_files(store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="E_NAME"):
        store.path_of(name)


def test_bit_rot_is_found_and_the_file_fetched_again(store: Store) -> None:
    entry = models.put(store, "model.onnx", b"bytes")
    path = store.path_of(entry.digest)
    assert store.verify(entry.digest)
    path.chmod(0o600)
    path.write_bytes(b"bytez")
    assert not store.verify(entry.digest)
    store.discard(entry.digest)
    assert not store.has(entry)
    models.put(store, "model.onnx", b"bytes")
    assert store.verify(entry.digest)


def test_what_a_power_cut_left_half_made_is_cleared_up(store: Store) -> None:
    (store.releases / ".tmp-x.json").write_bytes(b"half")
    store.recover()
    assert list(store.releases.iterdir()) == []


@given(record=RECORDS)
def test_every_record_round_trips(record: Record) -> None:
    assert decode(encode(record), name=Path("r")) == record


@given(record=RECORDS, data=st.data())
def test_no_altered_record_is_believed(record: Record, data: st.DataObject) -> None:
    whole = encode(record)
    at = data.draw(st.integers(0, len(whole) - 1))
    torn = data.draw(
        st.sampled_from([whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]])
    )
    with pytest.raises(RetryableError) as caught:
        decode(torn, name=Path("r"))
    assert caught.value.code == "E_RECORD"


@given(pairs=st.lists(st.tuples(NAMES, DIGESTS), min_size=1, unique_by=lambda p: p[0]))
def test_device_and_documents_agree_on_the_digest_of_a_variant(
    pairs: list[tuple[str, str]],
) -> None:
    assert files_digest(pairs) == release.files_digest(pairs) == files_digest(pairs[::-1])


@pytest.mark.parametrize("name", ["../x", ".hidden", "", "a/b"])
def test_a_file_name_that_climbs_out_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="base name"):
        FileEntry(name=name, digest="0" * 64, length=1)


def test_a_record_whose_files_are_missing_cannot_be_placed(
    store: Store, make: MakeRecord
) -> None:
    record = make("1.0.0")
    assert store.place(record).files[0].path == str(store.path_of(record.files[0].digest))
    store.discard(record.files[0].digest)
    assert [entry.name for entry in store.missing(record)] == ["f0.bin"]
    with pytest.raises(RetryableError, match="E_MISSING"):
        store.place(record)


def test_files_of_one_model_lie_side_by_side_under_their_names(
    store: Store, make: MakeRecord
) -> None:
    record = make("1.0.0", b"graph", b"weights")
    graph, weights = (Path(file.path) for file in store.place(record).files)
    assert (graph.name, weights.name) == ("f0.bin", "f1.bin")
    assert graph.parent == weights.parent
    assert graph.samefile(store.path_of(record.files[0].digest))


def test_a_repaired_file_is_linked_again(store: Store, make: MakeRecord) -> None:
    record = make("1.0.0", b"graph", b"weights")
    store.place(record)
    store.discard(record.files[1].digest)
    models.put(store, "f1.bin", b"weights")
    again = Path(store.place(record).files[1].path)
    assert again.samefile(store.path_of(record.files[1].digest))
