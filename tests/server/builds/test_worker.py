"""Builds are worked off, fail with a reason, and outlive the server that ran them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sqlmodel import Session, select
from tests.server.builds.desk import Desk
from tests.server.builds.models import CALIBRATION, dense, digits, save, write_set
from tests.support.waiting import eventually

from modelfleet_manifests.digests import EMPTY
from modelfleet_manifests.profiles.definition import Profile
from modelfleet_server.audit.tables import AuditEntry
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.blobs.tables import StoredBlob
from modelfleet_server.builds import service
from modelfleet_server.builds.domain import MAX_ATTEMPTS, State
from modelfleet_server.builds.errors import (
    BuildNotFoundError,
    MoveError,
    NotGatedError,
    UnknownProfileError,
)
from modelfleet_server.builds.overrides import Override, override
from modelfleet_server.builds.profiles import shipped_profiles
from modelfleet_server.builds.tables import Build
from modelfleet_server.builds.worker import Stores, Worker
from modelfleet_server.catalog import service as catalog
from modelfleet_server.catalog.domain import State as VersionState
from modelfleet_server.catalog.tables import ModelVersion
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
def worker(stores: Stores, finished: list[str]) -> Iterator[Worker]:
    worker = Worker(stores, lambda _session, version: finished.append(version))
    yield worker
    worker.stop()


def states(database: Database) -> dict[str, State]:
    with database.read() as session:
        return {build.profile: build.state for build in session.exec(select(Build))}


def the_build(database: Database) -> Build:
    with database.read() as session:
        return session.exec(select(Build)).one()


def actions(database: Database) -> list[str]:
    with database.read() as session:
        return [entry.action for entry in session.exec(select(AuditEntry))]


def version_of(database: Database, version_id: str) -> ModelVersion:
    with database.read() as session:
        return catalog.get_version(session, version_id)


def until(database: Database, state: State) -> None:
    eventually(lambda: state in states(database).values(), f"a build is {state}")


def test_builds_are_worked_off_and_the_version_is_built(
    database: Database, blobs: BlobStore, desk: Desk, worker: Worker, finished: list[str]
) -> None:
    version = desk.publish("jetson-orin-trt", "arm64")
    worker.start()
    eventually(lambda: finished, "the hook is called")
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
    database: Database, blobs: BlobStore, desk: Desk, worker: Worker, finished: list[str]
) -> None:
    version = desk.publish("arm64", "generic", master=digits("1.0.0"))
    worker.start()
    eventually(lambda: finished == [version], "it is built")
    with database.read() as session:
        for variant in catalog.variants_of(session, version):
            offer = catalog.find_delta(session, variant.digest, EMPTY)
            assert offer
            assert blobs.get(offer.blob).length == offer.length
            assert offer.length < blobs.get(variant.digest).length


def test_a_finished_build_shows_what_it_made(
    database: Database, desk: Desk, worker: Worker, stores: Stores
) -> None:
    desk.publish("generic")
    worker.start()
    until(database, State.DONE)
    build = the_build(database)
    built = service.read_built(build)
    assert built is not None
    assert built.precision == "fp32"
    assert (build.step, build.done) == ("done", build.of)
    assert build.attempts == 1
    assert not list(stores.scratch.iterdir())


def test_a_version_fails_once_all_its_builds_have_ended(
    database: Database, desk: Desk, worker: Worker, finished: list[str]
) -> None:
    version = desk.publish_misfit("generic", "arm64")
    worker.start()
    eventually(
        lambda: version_of(database, version).state is VersionState.FAILED, "it failed"
    )
    assert set(states(database).values()) == {State.FAILED}
    reason = version_of(database, version).reason
    assert reason.startswith("arm64: the array 'x' of the evaluation set is float32")
    assert "generic: " in reason
    assert finished == []


def test_a_failed_build_says_why_and_can_be_tried_again(
    database: Database, desk: Desk, worker: Worker
) -> None:
    version = desk.publish_misfit("generic")
    worker.start()
    until(database, State.FAILED)
    worker.stop()
    build = the_build(database)
    assert build.code == "data-set-refused"
    assert build.hint
    with database.write() as session:
        again = service.retry(session, build.id, actor="user:ada", at_ms=5)
        assert (again.state, again.reason, again.attempts) == (State.QUEUED, "", 0)
        with pytest.raises(MoveError):
            service.retry(session, build.id, actor="user:ada", at_ms=5)
    assert version_of(database, version).state is VersionState.BUILDING


def test_a_hook_that_refuses_fails_the_build_and_leaves_nothing_half_written(
    database: Database, desk: Desk, stores: Stores
) -> None:
    def refuse(_session: Session, _version: str) -> None:
        raise ConflictError("the release cannot be proposed", "Ask an approver.")

    worker = Worker(stores, refuse)
    version = desk.publish("generic")
    worker.start()
    until(database, State.FAILED)
    worker.stop()
    assert the_build(database).reason == "the release cannot be proposed"
    assert version_of(database, version).state is VersionState.FAILED
    with database.read() as session:
        assert not catalog.variants_of(session, version)


def test_a_stopped_worker_puts_its_build_back_and_the_next_runs_it(
    database: Database, desk: Desk, stores: Stores, finished: list[str]
) -> None:
    desk.publish_endless()
    first = Worker(stores, lambda _session, version: finished.append(version))
    first.start()
    eventually(lambda: the_build(database).of > 0, "the child runs")
    first.stop()
    build = the_build(database)
    assert (build.state, build.attempts) == (State.INTERRUPTED, 0)
    assert not list(stores.scratch.iterdir())

    second = Worker(stores, lambda _session, version: finished.append(version))
    second.start()
    until(database, State.RUNNING)
    second.stop()
    assert states(database) == {"generic": State.INTERRUPTED}


def leave_running(database: Database, *, attempts: int) -> None:
    """What the database of a server that was killed looks like."""
    with database.write() as session:
        build = service.claim(session, at_ms=2)
        assert build is not None
        build.attempts = attempts


def test_a_restart_runs_what_a_killed_server_left_running(
    database: Database, desk: Desk, worker: Worker, finished: list[str]
) -> None:
    desk.publish("generic")
    leave_running(database, attempts=1)
    worker.start()
    eventually(lambda: finished, "the build runs again")
    assert the_build(database).attempts == 2


def test_a_build_that_takes_the_server_with_it_is_given_up(
    database: Database, desk: Desk, worker: Worker
) -> None:
    desk.publish("generic")
    leave_running(database, attempts=MAX_ATTEMPTS)
    worker.start()
    until(database, State.FAILED)
    assert the_build(database).code == "build-lost"


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


def test_the_longest_waiting_build_runs_first(database: Database, desk: Desk) -> None:
    for at_ms, profile in ((5, "arm64"), (3, "generic"), (4, "armv7")):
        desk.publish(profile, at_ms=at_ms)
    order = []
    for _ in range(3):
        with database.write() as session:
            build = service.claim(session, at_ms=9)
            assert build is not None
            order.append(build.profile)
    assert order == ["generic", "armv7", "arm64"]
    with database.write() as session:
        assert service.claim(session, at_ms=9) is None


@pytest.mark.parametrize("act", [service.get_build, service.put_back])
def test_a_build_that_is_not_there_is_named(
    database: Database, act: Callable[[Session, str], Build]
) -> None:
    with database.write() as session, pytest.raises(BuildNotFoundError, match="nobody"):
        act(session, "nobody")


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
    worker = Worker(stores, profiles=gated())
    stores.scratch.mkdir()
    rng = np.random.default_rng(8)
    weights = rng.standard_normal((4, 3)).astype(np.float32)
    version = desk.publish(
        "arm64",
        master=save(dense(weights=weights), desk.folder / "random.onnx"),
        evaluation=write_set(desk.folder / "samples.npz"),
        calibration=None,
    )
    assert worker.work_once()
    build = the_build(database)
    assert (build.state, build.code) == (State.FAILED, "parity-gate")
    assert "95 % confidence" in build.reason

    wish = Override("int8-dynamic", "seen and accepted for the trial plant")
    with database.write() as session:
        override(session, build.id, wish, actor="user:ann", at_ms=9)
    assert worker.work_once()
    build = the_build(database)
    assert build.state is State.DONE
    with database.read() as session:
        (variant,) = catalog.variants_of(session, version)
        entries = session.exec(select(AuditEntry)).all()
    assert variant.metrics["parity-override"] == "1"
    (entry,) = [one for one in entries if one.action == "build.overridden"]
    assert entry.actor == "user:ann"
    assert "seen and accepted" in entry.detail


def test_only_the_gate_can_be_overridden(
    desk: Desk, stores: Stores, database: Database
) -> None:
    desk.publish_misfit("generic")
    stores.scratch.mkdir()
    assert Worker(stores).work_once()
    build = the_build(database)
    assert build.state is State.FAILED
    wish = Override("fp32", "because I say so, really")
    with database.write() as session, pytest.raises(NotGatedError, match="parity gate"):
        override(session, build.id, wish, actor="user:ann", at_ms=9)
