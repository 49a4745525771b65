from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import Session
from tests.support.fleet import ACTOR, NOW, FleetUnderTest, begin, make_schema, make_variant

from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.catalog import service
from modelfleet_server.catalog.tables import ModelVersion
from modelfleet_server.catalog.versions import NewVersion
from modelfleet_server.kit.db import Database

LINEAGE = {
    "code": "a" * 64,
    "data": "b" * 64,
    "environment": "c" * 64,
    "hyperparameters": {"rate": 0.001, "epochs": 12},
}


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> FleetUnderTest:
    fleet = begin(database, tmp_path)
    fleet.publisher.on_closed.append(service.on_closed)
    return fleet


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.write() as session:
        yield session


@pytest.fixture
def new(blobs: BlobStore) -> NewVersion:
    """What makes `demo/digits` 1.0.0; its blobs are uploaded."""
    return NewVersion(
        model="demo/digits",
        version="1.0.0",
        master=blobs.put(b"a master").digest,
        evaluation=blobs.put(b"an evaluation set").digest,
        lineage=LINEAGE,
        schema=make_schema(),
        profiles=["generic", "x86-avx2"],
    )


Make = Callable[..., ModelVersion]


@pytest.fixture
def make(session: Session, blobs: BlobStore, new: NewVersion) -> Make:
    """Makes a version as far as `built` asks; keywords replace what `new` says."""

    def create(
        version: str = "1.0.0", *, built: bool = True, **other: object
    ) -> ModelVersion:
        wish = replace(new, version=version, **other)  # type: ignore[arg-type]
        row = service.create_version(session, blobs, wish, actor=ACTOR, now_ms=NOW)
        if built:
            for profile in wish.profiles:
                variant = make_variant(profile, f"{row.model} {version}")
                service.add_variant(session, row.id, variant, at_ms=NOW)
            service.finish_building(session, row.id, now_ms=NOW)
        return row

    return create
