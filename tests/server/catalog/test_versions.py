"""Versions: made once, then built, proposed, released, revoked."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from sqlmodel import Session, select
from tests.server.catalog.conftest import Make
from tests.support.fleet import ACTOR, NOW, FleetUnderTest, id_of, make_variant

from modelfleet_manifests.errors import BadNameError
from modelfleet_manifests.recalls import Subject
from modelfleet_manifests.release import Demands
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.blobs.tables import StoredBlob
from modelfleet_server.catalog import service
from modelfleet_server.catalog.domain import State, VersionStateError
from modelfleet_server.catalog.lifecycle import IncompleteError
from modelfleet_server.catalog.releases import RevokedError
from modelfleet_server.catalog.tables import Model, ModelVersion
from modelfleet_server.catalog.versions import (
    BlobMissingError,
    NewVersion,
    VersionExistsError,
    VersionInputError,
)
from modelfleet_server.kit.errors import NotFoundError
from modelfleet_server.trust import proposals, store
from modelfleet_server.trust.domain import Kind
from modelfleet_server.trust.view import read_view


def _state(session: Session, row: ModelVersion) -> State:
    session.refresh(row)
    return row.state


def _approve(session: Session, fleet: FleetUnderTest, row: ModelVersion) -> None:
    fleet.approve(session, store.get_proposal(session, row.proposal))


def test_a_version_waits_for_its_variants_and_keeps_its_blobs(
    session: Session, make: Make
) -> None:
    row = make(built=False)
    assert _state(session, row) is State.BUILDING
    assert {one.digest for one in session.exec(select(StoredBlob))} == {
        row.master,
        row.evaluation,
    }
    material = service.get_material(session, row.id)
    assert material == (row.master, row.evaluation, None)


def test_a_version_that_exists_is_never_made_again(session: Session, make: Make) -> None:
    make(built=False)
    with pytest.raises(VersionExistsError, match=r"demo/digits 1\.0\.0"):
        make(built=False)


@pytest.mark.parametrize("version", ["1", "1.0", "v1.0.0", "1.0.0+build", "01.0.0", ""])
def test_a_version_that_is_not_semantic_is_refused(make: Make, version: str) -> None:
    with pytest.raises(BadNameError):
        make(version)


@pytest.mark.parametrize("model", ["digits", "Demo/digits", "root/x", "a/b/c", "a/../b"])
def test_a_model_without_a_proper_name_is_refused(make: Make, model: str) -> None:
    with pytest.raises(BadNameError):
        make(model=model)


@pytest.mark.parametrize("part", ["master", "evaluation", "calibration"])
def test_a_version_of_blobs_that_were_not_uploaded_is_refused_and_leaves_nothing(
    session: Session, make: Make, part: str
) -> None:
    with pytest.raises(BlobMissingError, match=part):
        make(**{part: "e" * 64})
    for table in (Model, ModelVersion, AuditEntry, StoredBlob):
        found = session.exec(select(table)).all()
        assert [one for one in found if getattr(one, "action", "") != "fleet.begun"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"profiles": []},
        {"slots": []},
        {"slots": [f"slot-{n}" for n in range(17)]},
        {"rollback_to": ["1.0.0"]},
        {"rollback_to": ["2.0.0"]},
        {"rollback_to": [f"0.{n}.0" for n in range(65)]},
        {"demands": Demands(trial_ms=-1)},
    ],
)
def test_input_out_of_bounds_is_refused(make: Make, change: dict[str, object]) -> None:
    with pytest.raises(VersionInputError):
        make(built=False, **change)


def test_a_version_lacking_a_variant_is_neither_assembled_nor_finished(
    session: Session, make: Make
) -> None:
    row = make(built=False)
    service.add_variant(session, row.id, make_variant("generic", "x"), at_ms=NOW)
    with pytest.raises(IncompleteError, match="x86-avx2"):
        service.finish_building(session, row.id, now_ms=NOW)
    assert _state(session, row) is State.BUILDING


def test_a_variant_built_again_replaces_the_one_for_its_profile(
    session: Session, make: Make
) -> None:
    row = make(built=False)
    for seed in ("first", "second"):
        service.add_variant(session, row.id, make_variant("generic", seed), at_ms=NOW)
    (variant,) = service.variants_of(session, row.id)
    assert variant == make_variant("generic", "second")


def test_a_built_version_is_proposed_signed_and_released(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    row = make()
    assert _state(session, row) is State.PROPOSED
    with pytest.raises(NotFoundError, match="is proposed, not released"):
        service.find_release(session, "demo/digits", "1.0.0")
    _approve(session, fleet, row)
    assert _state(session, row) is State.RELEASED
    assert row.released_ms == NOW
    ref, release = service.find_release(session, "demo/digits", "1.0.0")
    assert (ref.id, id_of(release)) == (row.release, row.release)
    assert service.releases_by_id(session, [row.release, "0" * 64]) == {ref.id: release}
    assert release.lineage == row.lineage
    assert [one.profile for one in release.variants] == ["generic", "x86-avx2"]


def test_what_is_proposed_or_signed_takes_no_more_variants(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    row = make()
    with pytest.raises(VersionStateError):
        service.add_variant(session, row.id, make_variant("generic", "x"), at_ms=NOW)
    _approve(session, fleet, row)
    with pytest.raises(VersionStateError):
        service.add_variant(session, row.id, make_variant("generic", "x"), at_ms=NOW)


def test_by_default_a_device_may_return_to_every_lower_version_released_and_not_revoked(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    for version in ("1.0.0", "1.2.0", "1.10.0", "3.0.0"):
        _approve(session, fleet, make(version))
    bad = service.require_version(session, "demo/digits", "1.2.0")
    fleet.recall(session, bad.release)
    row = make("2.0.0")
    _approve(session, fleet, row)
    _, release = service.find_release(session, "demo/digits", "2.0.0")
    assert release.rollback_to == ["1.0.0", "1.10.0"]


@pytest.mark.parametrize("chosen", [[], ["0.9.0"]])
def test_versions_to_return_to_can_be_chosen(
    session: Session, fleet: FleetUnderTest, make: Make, chosen: Sequence[str]
) -> None:
    _approve(session, fleet, make("0.9.0"))
    _approve(session, fleet, make("0.9.1"))
    _approve(session, fleet, make(rollback_to=chosen))
    _, release = service.find_release(session, "demo/digits", "1.0.0")
    assert release.rollback_to == list(chosen)


def test_a_revoked_release_is_not_found_for_rollouts_but_stays_known(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    row = make()
    _approve(session, fleet, row)
    fleet.recall(session, row.release)
    assert _state(session, row) is State.REVOKED
    assert "tested too little" in row.reason
    with pytest.raises(RevokedError):
        service.find_release(session, "demo/digits", "1.0.0")
    assert row.release in service.releases_by_id(session, [row.release])
    fleet.recall(session, row.release, Kind.STOP)
    assert _state(session, row) is State.REVOKED
    view = read_view(session, now_ms=NOW)
    subject = Subject("demo/digits", "1.0.0", frozenset({row.release}))
    assert view.recalls.stops(subject)


def test_a_recalled_range_revokes_each_version_in_it_and_no_other(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    rows = []
    for version in ("1.0.0", "1.1.0"):
        rows.append(make(version))
        _approve(session, fleet, rows[-1])
    fleet.recall(session, "demo/digits@<1.1.0", Kind.STOP)
    assert [_state(session, row) for row in rows] == [State.REVOKED, State.RELEASED]


def test_a_second_version_waits_until_the_first_is_decided(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    first, second = make("1.0.0"), make("1.1.0")
    assert (first.state, second.state) == (State.PROPOSED, State.BUILT)
    assert first.proposal in second.reason
    _approve(session, fleet, first)
    assert _state(session, second) is State.PROPOSED
    assert service.assemble_release(session, second.id).rollback_to == ["1.0.0"]


def test_a_withdrawn_version_waits_for_a_person_and_can_be_proposed_again(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    row = make()
    first = row.proposal
    proposals.withdraw(session, fleet.publisher, first, actor=ACTOR, now_ms=NOW)
    assert _state(session, row) is State.BUILT
    service.propose(session, row.id, actor=ACTOR, now_ms=NOW)
    assert row.proposal != first
    _approve(session, fleet, row)
    assert _state(session, row) is State.RELEASED


def test_a_failed_version_can_be_built_again(
    session: Session, fleet: FleetUnderTest, make: Make
) -> None:
    row = make(built=False)
    service.fail_building(session, row.id, "the child was killed", now_ms=NOW)
    assert (row.state, row.reason) == (State.FAILED, "the child was killed")
    service.retry_building(session, row.id, actor=ACTOR, now_ms=NOW)
    assert _state(session, row) is State.BUILDING


def test_without_a_fleet_a_version_is_built_and_says_what_is_missing(
    session: Session, make: Make
) -> None:
    row = make()
    assert _state(session, row) is State.BUILT
    assert "no trust metadata" in row.reason


def test_the_resolver_sees_slots_and_releases_as_they_were_signed(
    session: Session, fleet: FleetUnderTest, blobs: BlobStore, make: Make, new: NewVersion
) -> None:
    row = make(slots=["reader", "spare"])
    _approve(session, fleet, row)
    view = read_view(session, now_ms=NOW)
    assert set(view.releases) == {row.release}
    assert set(view.slots) == {"reader", "spare"}
    assert view.slots["reader"][0].schema == new.schema.digest
    assert view.fresh
    assert not read_view(session, now_ms=NOW + 15 * 86_400_000).fresh
    assert replace(view, fresh=False) == read_view(session, now_ms=NOW + 15 * 86_400_000)
