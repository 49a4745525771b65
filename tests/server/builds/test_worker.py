"""Builds are worked off, fail with a reason, and outlive the server that ran them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlmodel import Session, select
from tests.server.builds.desk import Desk
from tests.server.builds.models import CALIBRATION, dense, digits, save, write_set
from tests.support.jobs import kinds_of, make_performer, work_off
from tests.support.waiting import eventually

from modelfleet_manifests.digests import EMPTY
from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.release import Waiver
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.blobs.tables import StoredBlob
from modelfleet_server.builds import service
from modelfleet_server.builds.domain import State
from modelfleet_server.builds.errors import (
    BuildNotFoundError,
    MoveError,
    NotGatedError,
    UnknownProfileError,
)
from modelfleet_server.builds.overrides import Override, override
from modelfleet_server.builds.profiles import shipped_profiles
from modelfleet_server.builds.tables import Build
from modelfleet_server.builds.worker import Builder, Stores
from modelfleet_server.catalog import service as catalog
from modelfleet_server.catalog.domain import State as VersionState
from modelfleet_server.catalog.tables import ModelVersion
from modelfleet_server.jobs import service as jobs
from modelfleet_server.jobs.domain import MAX_LOSSES
from modelfleet_server.jobs.domain import State as JobState
from modelfleet_server.jobs.errors import StopRunError
from modelfleet_server.jobs.kinds import Kind
from modelfleet_server.jobs.tables import Job
from modelfleet_server.kit.db import Database
from modelfleet_server.kit.errors import ConflictError


@pytest.fixture
def desk(database: Database, blobs: BlobStore, tmp_path: Path) -> Desk:
    return Desk(database, blobs, tmp_path)


@pytest.fixture
def stores(database: Database, blobs: BlobStore, tmp_path: Path) -> Stores:
    return Stores(database, blobs, tmp_path / "builds")


@pytest.fixture
def finished() -> list[str]:
    return []


@pytest.fixture
def kind(stores: Stores, finished: list[str]) -> Kind:
    return Builder(stores, lambda _session, version: finished.append(version)).kind


def states(database: Database) -> dict[str, State]:
    with database.read() as session:
        return {build.profile: build.state for build in session.exec(select(Build))}


def the_build(database: Database) -> Build:
    with database.read() as session:
        return session.exec(select(Build)).one()


def the_job(database: Database) -> Job:
    with database.read() as session:
        return session.exec(select(Job)).one()


def actions(database: Database) -> list[str]:
    with database.read() as session:
        return [entry.action for entry in session.exec(select(AuditEntry))]


def version_of(database: Database, version_id: str) -> ModelVersion:
    with database.read() as session:
        return catalog.get_version(session, version_id)


def test_builds_are_worked_off_and_the_version_is_built(
    database: Database, blobs: BlobStore, desk: Desk, kind: Kind, finished: list[str]
) -> None:
    version = desk.publish("jetson-orin-trt", "arm64")
    assert work_off(database, kind) == 2
    assert finished == [version]
    assert set(states(database).values()) == {State.DONE}
    assert version_of(database, version).state is VersionState.BUILT
    assert actions(database)[1:] == [
        "builds.queued",
        "build.done",
        "build.done",
        "version.moved",
    ]
    with database.read() as session:
        variants = {one.profile: one for one in catalog.variants_of(session, version)}
        for variant in variants.values():
            for file in (variant.files[0], variant.golden.file):
                assert session.get(StoredBlob, file.digest)
                assert blobs.get(file.digest).length == file.length
    assert variants["arm64"].calibration == blobs.put(CALIBRATION).digest
    assert variants["jetson-orin-trt"].calibration == ""


def test_every_variant_is_offered_packed(
    database: Database, blobs: BlobStore, desk: Desk, kind: Kind, finished: list[str]
) -> None:
    version = desk.publish("arm64", "generic", master=digits("1.0.0"))
    work_off(database, kind)
    assert finished == [version]
    with database.read() as session:
        for variant in catalog.variants_of(session, version):
            offer = catalog.find_delta(session, variant.digest, EMPTY)
            assert offer
            assert blobs.get(offer.blob).length == offer.length
            assert offer.length < blobs.get(variant.digest).length


def test_a_finished_build_shows_what_it_made(
    database: Database, desk: Desk, kind: Kind, stores: Stores
) -> None:
    desk.publish("generic")
    work_off(database, kind)
    build = the_build(database)
    built = service.read_built(build)
    assert built is not None
    assert built.precision == "fp32"
    job = the_job(database)
    assert (job.key, job.state, job.starts) == (build.id, JobState.DONE, 1)
    assert (job.step, job.done) == ("done", job.of)
    assert job.lane == "demo/digits"
    assert not list(stores.scratch.iterdir())


def test_a_version_fails_once_all_its_builds_have_ended(
    database: Database, desk: Desk, kind: Kind, finished: list[str]
) -> None:
    version = desk.publish_misfit("generic", "arm64")
    work_off(database, kind)
    assert version_of(database, version).state is VersionState.FAILED
    assert set(states(database).values()) == {State.FAILED}
    reason = version_of(database, version).reason
    assert reason.startswith("arm64: the array 'x' of the evaluation set is float32")
    assert "generic: " in reason
    assert finished == []


def test_a_failed_build_says_why_and_can_be_tried_again(
    database: Database, desk: Desk, kind: Kind
) -> None:
    version = desk.publish_misfit("generic")
    work_off(database, kind)
    build = the_build(database)
    assert build.code == "data-set-refused"
    assert build.hint
    with database.write() as session:
        again = service.retry(session, build.id, actor="user:ada", at_ms=5)
        assert (again.state, again.reason) == (State.QUEUED, "")
        with pytest.raises(MoveError):
            service.retry(session, build.id, actor="user:ada", at_ms=5)
    assert version_of(database, version).state is VersionState.BUILDING


def test_a_hook_that_refuses_fails_the_build_and_leaves_nothing_half_written(
    database: Database, desk: Desk, stores: Stores
) -> None:
    def refuse(_session: Session, _version: str) -> None:
        raise ConflictError("the release cannot be proposed", "Ask an approver.")

    version = desk.publish("generic")
    work_off(database, Builder(stores, refuse).kind)
    assert the_build(database).reason == "the release cannot be proposed"
    assert version_of(database, version).state is VersionState.FAILED
    with database.read() as session:
        assert not catalog.variants_of(session, version)


def test_a_build_that_is_stopped_waits_and_the_next_worker_runs_it(
    database: Database, desk: Desk, stores: Stores, kind: Kind
) -> None:
    """Twice, and it is neither failed nor counted as lost."""
    desk.publish_endless()
    for starts in (1, 2):
        performer = make_performer(database, kind)
        job = the_job(database)
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(performer.perform, job.id, job.run)
            eventually(lambda: the_job(database).of > 0, "the child runs")
            performer.stop()
            with pytest.raises(StopRunError):
                running.result(20)
        job = the_job(database)
        assert (job.state, job.starts, job.losses) == (JobState.QUEUED, starts, 0)
        assert states(database) == {"generic": State.QUEUED}
        assert not list(stores.scratch.iterdir())


def test_a_build_that_is_cancelled_ends_its_child_and_fails(
    database: Database, desk: Desk, stores: Stores, kind: Kind
) -> None:
    version = desk.publish_endless()
    performer = make_performer(database, kind)
    job = the_job(database)
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(performer.perform, job.id, job.run)
        eventually(lambda: the_job(database).of > 0, "the child runs")
        with database.write() as session:
            jobs.cancel(session, kinds_of(kind), job.id, actor="user:ada", at_ms=7)
        performer.stop_lost()
        running.result(20)
    assert the_build(database).code == "job-cancelled"
    assert version_of(database, version).state is VersionState.FAILED
    assert not list(stores.scratch.iterdir())
    assert "job.cancelled" in actions(database)


def test_a_build_that_takes_its_workers_with_it_is_given_up(
    database: Database, desk: Desk, kind: Kind
) -> None:
    version = desk.publish("generic")
    for _ in range(MAX_LOSSES):
        with database.write() as session:
            job = the_job(database)
            begun = jobs.begin(session, job.id, job.run, "gone", at_ms=2)
            assert begun is not None
            jobs.lose(session, kinds_of(kind), [begun], at_ms=3)
    assert the_build(database).code == "job-lost"
    assert version_of(database, version).state is VersionState.FAILED


def test_a_queued_build_is_not_queued_twice(database: Database, desk: Desk) -> None:
    version = desk.publish("generic", "arm64")
    with database.write() as session:
        before = {build.profile: build.id for build in session.exec(select(Build))}
        wanted = ["arm64", "armv7", "arm64"]
        builds = service.queue(session, version, wanted, actor="user:ada", at_ms=2)
    assert [build.profile for build in builds] == ["arm64", "armv7"]
    assert builds[0].id == before["arm64"]
    assert len(states(database)) == 3


def test_an_unknown_profile_queues_nothing(database: Database, desk: Desk) -> None:
    with pytest.raises(UnknownProfileError, match="abacus"):
        desk.publish("generic", "abacus")
    assert states(database) == {}


def test_models_take_turns(database: Database, desk: Desk) -> None:
    """However many builds one of them has."""
    desk.publish("arm64", "armv7", "generic")
    desk.publish("x86-avx2", model="demo/other", at_ms=2)
    with database.read() as session:
        waiting = jobs.list_unhanded(session, 9)
        builds = {one.id: one.profile for one in session.exec(select(Build))}
    assert [builds[job.key] for job in waiting] == ["arm64", "x86-avx2", "armv7", "generic"]


def test_a_build_that_is_not_there_is_named(database: Database) -> None:
    with database.read() as session, pytest.raises(BuildNotFoundError, match="nobody"):
        service.get_build(session, "nobody")


def gated() -> dict[str, Profile]:
    """An operator's profile of int8 only, so that the gate can block it."""
    plan = shipped_profiles()["arm64"]
    whole = msgspec.structs.replace(plan.candidates[2], unless=[])
    objective = msgspec.structs.replace(plan.objective, disagreement="0")
    return {"arm64": msgspec.structs.replace(plan, candidates=[whole], objective=objective)}


def test_an_approver_lets_a_variant_pass_the_gate_and_that_is_kept(
    stores: Stores, desk: Desk, database: Database
) -> None:
    """Dynamic int8 of random weights answers otherwise than its master now and then."""
    kind = Builder(stores, profiles=gated()).kind
    rng = np.random.default_rng(8)
    weights = rng.standard_normal((4, 3)).astype(np.float32)
    version = desk.publish(
        "arm64",
        master=save(dense(weights=weights), desk.folder / "random.onnx"),
        evaluation=write_set(desk.folder / "samples.npz"),
        calibration=None,
    )
    assert work_off(database, kind) == 1
    build = the_build(database)
    assert (build.state, build.code) == (State.FAILED, "parity-gate")
    assert "95 % confidence" in build.reason

    wish = Override("int8-dynamic", "seen and accepted for the trial plant")
    with database.write() as session:
        override(session, build.id, wish, actor="user:ann", at_ms=9)
    assert work_off(database, kind) == 1
    build = the_build(database)
    assert build.state is State.DONE
    with database.read() as session:
        (variant,) = catalog.variants_of(session, version)
        entries = session.exec(select(AuditEntry)).all()
    assert variant.waiver == Waiver(by="user:ann", reason=wish.reason)
    (entry,) = [one for one in entries if one.action == "build.overridden"]
    assert entry.actor == "user:ann"
    assert "seen and accepted" in entry.detail


def test_only_the_gate_can_be_overridden(
    desk: Desk, stores: Stores, database: Database
) -> None:
    desk.publish_misfit("generic")
    assert work_off(database, Builder(stores).kind) == 1
    build = the_build(database)
    assert build.state is State.FAILED
    wish = Override("fp32", "because I say so, really")
    with database.write() as session, pytest.raises(NotGatedError, match="parity gate"):
        override(session, build.id, wish, actor="user:ann", at_ms=9)
