"""Channels and deltas."""

import pytest
from sqlmodel import Session
from tests.server.catalog.conftest import Make
from tests.support.fleet import ACTOR, NOW, FleetUnderTest

from modelfleet_manifests.errors import BadNameError
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.catalog import service
from modelfleet_server.catalog.channels import NotReleasedError
from modelfleet_server.kit.errors import InvalidError, NotFoundError
from modelfleet_server.trust import store

MODEL = "demo/digits"


def _move(session: Session, version: str, name: str = "production") -> None:
    service.move_channel(session, MODEL, name, version, actor=ACTOR, now_ms=NOW)


def test_a_channel_moves_and_keeps_its_whole_history(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    for version in ("1.0.0", "1.1.0"):
        fleet.approve(session, store.get_proposal(session, make(version).proposal))
    for version in ("1.0.0", "1.1.0", "1.1.0", "1.0.0"):
        _move(session, version)
    (channel,) = service.channels_of(session, MODEL)
    assert channel.version == "1.0.0"
    history = service.history_of(session, MODEL, "production")
    assert [one.version for one in history] == ["1.0.0", "1.1.0", "1.0.0"]


def test_a_channel_never_names_what_is_not_released(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    row = make()
    with pytest.raises(NotReleasedError, match="proposed"):
        _move(session, "1.0.0")
    fleet.approve(session, store.get_proposal(session, row.proposal))
    fleet.recall(session, row.release)
    with pytest.raises(NotReleasedError, match="revoked"):
        _move(session, "1.0.0")
    with pytest.raises(NotFoundError):
        _move(session, "9.0.0")
    with pytest.raises(BadNameError):
        _move(session, "1.0.0", "Production")


def test_the_shorter_delta_between_two_files_is_offered(
    session: Session, blobs: BlobStore
) -> None:
    new, old = "1" * 64, "2" * 64
    long, short = (
        service.Patch(blobs.put(data), "td1", 1 << 20) for data in (b"longer", b"short")
    )
    for patch, wins in ((long, long), (short, short), (long, short)):
        service.offer_delta(session, new, old, patch, now_ms=NOW)
        found = service.find_delta(session, new, old)
        assert found is not None
        assert (found.blob, found.length) == wins.blob
    assert service.find_delta(session, old, new) is None


@pytest.mark.parametrize(("new", "old"), [("1" * 64, "1" * 64), ("x", "1" * 64)])
def test_a_delta_between_what_are_not_two_files_is_refused(
    session: Session, blobs: BlobStore, new: str, old: str
) -> None:
    patch = service.Patch(blobs.put(b"patch"), "td1", 1)
    with pytest.raises(InvalidError):
        service.offer_delta(session, new, old, patch, now_ms=NOW)
