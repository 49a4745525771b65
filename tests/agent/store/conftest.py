"""A store with records of made-up files."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.agent import models

from modelfleet_agent.store import Record, Slots, Store

MakeRecord = Callable[..., Record]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "agent")


@pytest.fixture
def slots(store: Store) -> Slots:
    return Slots(store)


@pytest.fixture
def make(store: Store) -> MakeRecord:
    def make_record(version: str, *contents: bytes) -> Record:
        files = contents or (f"model {version}".encode(),)
        record = Record(
            release=hashlib.sha256(version.encode()).hexdigest(),
            model="demo/digits",
            version=version,
            profile="generic",
            files=tuple(
                models.put(store, f"f{n}.bin", data) for n, data in enumerate(files)
            ),
            golden=models.put(store, "golden.npz", b"golden"),
        )
        store.put(record)
        return record

    return make_record
