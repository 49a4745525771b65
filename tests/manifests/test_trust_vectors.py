"""Golden vectors of what trust adds: time tokens, and ranges of versions."""

import json
from pathlib import Path

import pytest

from modelfleet_manifests.errors import ManifestError
from modelfleet_manifests.keys import PublicKey
from modelfleet_manifests.recalls import parse_range, read_range, read_tombstone
from modelfleet_manifests.timetoken import open_token
from tests.manifests.vectors.make import text_of, trust

FOLDER = Path(__file__).parent / "vectors" / "trust"
MODEL = "demo/digits"


def test_the_files_are_what_is_written_today() -> None:
    made = trust()
    assert {path.stem for path in FOLDER.glob("*.json")} == set(made)
    for name, case in made.items():
        assert (FOLDER / f"{name}.json").read_text() == text_of(case)


def test_each_token_tells_its_time_or_is_refused_by_name() -> None:
    case = json.loads((FOLDER / "time-tokens.json").read_text())
    keys = [PublicKey(one) for one in case["keys"]]
    for token in case["tokens"]:
        envelope = token["envelope"].encode()
        fleet, nonce = case["fleet"], case["nonce"]
        if "error" not in token:
            told = open_token(envelope, keys, 1, fleet=fleet, nonce=nonce)
            assert told == token["time"]
            continue
        with pytest.raises(ManifestError) as caught:
            open_token(envelope, keys, 1, fleet=fleet, nonce=nonce)
        assert caught.value.code == token["error"]


def test_each_range_covers_what_it_covers() -> None:
    case = json.loads((FOLDER / "ranges.json").read_text())
    for one in case["ranges"]:
        found = read_range(read_tombstone(one["path"]).name)
        assert found == parse_range(one["written"])
        assert all(found.covers(MODEL, version) for version in one["covers"])
        assert not any(found.covers(MODEL, version) for version in one["spares"])
    for name in case["refused"]:
        with pytest.raises(ManifestError):
            read_range(name)
