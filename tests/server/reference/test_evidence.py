"""What a profile asks of reference devices is shown by them, signed, before it counts."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx2
import msgspec
import numpy as np
import pytest
from sqlmodel import select
from tests.server.builds.desk import Desk
from tests.support.devices import SimDevice
from tests.support.jobs import work_off
from tests.support.server import API, NO_TLS, ServerUnderTest

from modelfleet_manifests.digests import sha256
from modelfleet_manifests.evaluation import (
    REFERENCE,
    Evaluation,
    EvaluationResult,
    Latency,
    Measured,
    open_evaluation,
    seal_result,
)
from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.profiles import Facts
from modelfleet_server.builds.domain import State as BuildState
from modelfleet_server.builds.profiles import load_profiles
from modelfleet_server.builds.tables import Build
from modelfleet_server.builds.worker import Builder, Stores
from modelfleet_server.kit.access import Role
from modelfleet_server.kit.clock import now_ms
from modelfleet_server.reference import results, tables
from modelfleet_server.reference.domain import State
from modelfleet_server.reference.grading import Grader
from modelfleet_server.reference.service import DUE_MS, Referee
from modelfleet_server.trust.director import Director

PROFILE = """\
name: generic
title: Any device, and {count} of them must show it
rank: 900
detect: {{}}
providers: [CPUExecutionProvider]
opset: 24
ir: 13
prove: {{reference_devices: {count}}}
candidates:
  - {{name: fp32, precision: fp32, steps: [{{step: opset, at_least: 17}}]}}
"""
PLAIN = Facts(arch="riscv64", runtime="onnxruntime 1.32", agent="0.1.0")


class House:
    """A server whose generic profile asks for evidence, and its devices."""

    def __init__(self, home: Path, count: int) -> None:
        (home / "profiles").mkdir(parents=True)
        (home / "profiles/generic.yaml").write_text(PROFILE.format(count=count))
        self.server = ServerUnderTest.start(home, duties=API)
        self.home = home
        self._devices: list[Reference] = []

    def close(self) -> None:
        for device in self._devices:
            device.http.close()
        self.server.stop()

    def publish(self) -> Build:
        """Publish a version and build it; return its build."""
        server, profiles = self.server, load_profiles(self.home / "profiles")
        Desk(server.database, server.blobs, self.home).publish("generic")
        stores = Stores(server.database, server.blobs, self.home / "scratch")
        work_off(server.database, Builder(stores, profiles=profiles).kind)
        return self.build()

    def build(self) -> Build:
        with self.server.database.read() as session:
            return session.exec(select(Build)).one()

    def grade(self) -> None:
        """Do what jobs there are."""
        parts, database = self.server.parts, self.server.database
        grader = Grader(database, self.server.blobs, parts.get(Referee))
        work_off(database, grader.kind)

    def evaluations(self) -> list[tables.Evaluation]:
        with self.server.database.read() as session:
            return list(session.exec(select(tables.Evaluation)).all())

    def device(self, name: str, labels: dict[str, str] | None = None) -> "Reference":
        wanted = REFERENCE if labels is None else labels
        one = SimDevice.enrol(self.server, name, labels=wanted, facts=PLAIN)
        one.report()
        self._devices.append(Reference(self.server, one))
        return self._devices[-1]


class Reference:
    """A reference device, at the level of what it sends."""

    def __init__(self, server: ServerUnderTest, device: SimDevice) -> None:
        self.server, self.device = server, device
        self.http = httpx2.Client(
            base_url=f"{server.url}/api/v1/evaluations",
            headers={"Authorization": f"Bearer {device.token}"},
            verify=NO_TLS,
        )

    def ask(self) -> Evaluation | None:
        """Return what it is to evaluate."""
        answer = self.http.get("/next")
        if answer.status_code == HTTPStatus.NO_CONTENT:
            return None
        assert answer.status_code == HTTPStatus.OK, answer.text
        keys = self.server.parts.get(Director).known
        document = open_evaluation(answer.content, keys)
        assert isinstance(document, Evaluation)
        return document

    def answer(self, task: Evaluation, *, wrong: bool = False) -> int:
        """Answer as the master does, or never as it does; return the status."""
        answers = run(self.server, task)
        if wrong:
            answers = -answers
        path = self.server.blobs.path_of(task.samples.digest).with_suffix(".answers.npy")
        np.save(path, answers)
        data = path.read_bytes()
        path.unlink()
        put = self.http.put(f"/{task.job}/answers", content=data)
        assert put.status_code == HTTPStatus.NO_CONTENT, put.text
        measured = Measured(
            answers=sha256(data),
            length=len(data),
            samples=len(answers),
            batch=1,
            latency_us=Latency(p50=10, p90=20, p99=30),
            load_ms=5,
            memory_kb=1000,
            energy_mj=7,
        )
        return self.send(self.result(task, measured=measured))

    def result(self, task: Evaluation, **changes: object) -> EvaluationResult:
        one = EvaluationResult(
            fleet=task.header.fleet,
            device=self.device.id,
            enrolment=self.device.enrolment,
            job=task.job,
            candidate=task.digest,
            samples=task.samples.digest,
            code="",
            reason="",
            runtime="onnxruntime 1.32",
            provider="CPUExecutionProvider",
            cpu=[],
        )
        return msgspec.structs.replace(one, **changes)

    def send(self, result: EvaluationResult, key: PrivateKey | None = None) -> int:
        envelope = seal_result(result, key or self.device.key)
        return self.http.post(f"/{result.job}/result", content=envelope).status_code


def run(server: ServerUnderTest, task: Evaluation) -> np.ndarray:
    import onnxruntime  # noqa: PLC0415 - a second of every other test's time

    (file,) = task.candidate
    session = onnxruntime.InferenceSession(server.blobs.path_of(file.digest))
    with np.load(server.blobs.path_of(task.samples.digest)) as samples:
        feeds = {"x": samples["x"][: task.allowance.samples]}
    return np.asarray(session.run(None, feeds)[0])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path / "fleet", 1)
    yield one
    one.close()


@pytest.fixture
def strict_house(tmp_path: Path) -> Iterator[House]:
    one = House(tmp_path / "fleet", 2)
    yield one
    one.close()


def test_a_variant_counts_once_a_reference_device_has_shown_what_it_is_worth(
    house: House,
) -> None:
    assert house.publish().state is BuildState.AWAITING
    device = house.device("bench-1")
    task = device.ask()
    assert task is not None
    assert device.ask() == task  # asked again before it answered: the same
    assert device.answer(task) == HTTPStatus.NO_CONTENT
    house.grade()
    assert house.build().state is BuildState.DONE
    assert device.ask() is None
    listed = house.server.client(Role.VIEWER).get("/api/v1/evaluations").json()["items"]
    assert [(one["state"], one["device"], one["p99_us"]) for one in listed] == [
        ("passed", "bench-1", 30)
    ]
    assert listed[0]["accuracy"] == listed[0]["master_accuracy"] > 0.9
    assert listed[0]["energy_mj"] == 7


def test_a_variant_that_misses_its_budget_on_a_device_is_not_built(house: House) -> None:
    house.publish()
    device = house.device("bench-1")
    task = device.ask()
    assert task is not None
    device.answer(task, wrong=True)
    house.grade()
    build = house.build()
    assert (build.state, build.code) == (BuildState.FAILED, "parity-gate")
    assert "on the reference device bench-1: fp32 loses" in build.reason


def test_a_variant_that_does_not_run_on_a_device_is_not_built(house: House) -> None:
    house.publish()
    device = house.device("bench-1")
    task = device.ask()
    assert task is not None
    failed = device.result(task, code="E_MEMORY", reason="the evaluation hit a limit")
    assert device.send(failed) == HTTPStatus.NO_CONTENT
    assert "E_MEMORY: the evaluation hit a limit" in house.build().reason


def test_two_devices_are_two_devices(strict_house: House) -> None:
    house = strict_house
    house.publish()
    one, two, three = (house.device(f"bench-{n}") for n in (1, 2, 3))
    tasks = [device.ask() for device in (one, two)]
    assert three.ask() is None  # as many as are needed were asked
    for device, task in zip((one, two), tasks, strict=True):
        assert task is not None
        assert house.build().state is BuildState.AWAITING
        device.answer(task)
        house.grade()
    assert house.build().state is BuildState.DONE


def test_a_device_that_never_answers_is_not_waited_for_long(house: House) -> None:
    house.publish()
    assert house.device("bench-1").ask() is not None
    other = house.device("bench-2")
    assert other.ask() is None
    with house.server.database.write() as session:
        row = session.exec(select(tables.Evaluation)).one()
        row.due_ms = now_ms() - DUE_MS
        session.add(row)
    assert other.ask() is not None
    states = {row.device: row.state for row in house.evaluations()}
    assert states == {"bench-1": State.LAPSED, "bench-2": State.ISSUED}


def test_other_devices_get_nothing_and_can_answer_nothing(house: House) -> None:
    house.publish()
    task = house.device("bench-1").ask()
    assert task is not None
    stranger = house.device("cam-1", labels={"role": "camera"})
    assert stranger.ask() is None
    assert stranger.send(stranger.result(task, code="E_CRASH")) == HTTPStatus.NOT_FOUND
    viewer = house.server.client(Role.VIEWER).get("/api/v1/evaluations/next")
    assert viewer.status_code == HTTPStatus.FORBIDDEN


def test_answers_that_are_uploaded_again_take_the_place_of_those_before(
    strict_house: House,
) -> None:
    strict_house.publish()
    exists = strict_house.server.blobs.exists
    files = [results.MAGIC + bytes([number]) for number in range(3)]
    one, other = (strict_house.device(f"bench-{number}") for number in (1, 2))
    tasks = [device.ask() for device in (one, other)]
    paths = [f"/{task.job}/answers" for task in tasks if task]
    one.http.put(paths[0], content=files[0])
    one.http.put(paths[0], content=files[1])
    assert [exists(sha256(data)) for data in files] == [False, True, False]
    other.http.put(paths[1], content=files[1])
    one.http.put(paths[0], content=files[2])
    assert exists(sha256(files[1]))  # the other device still answers so
    other.http.put(paths[1], content=files[2])
    assert [exists(sha256(data)) for data in files] == [False, False, True]


def test_only_answers_can_be_uploaded_and_only_where_they_are_awaited(
    house: House,
) -> None:
    """A device could else have another file taken away in the place of its answers."""
    house.publish()
    device = house.device("bench-1")
    task = device.ask()
    assert task is not None
    model = house.server.blobs.path_of(task.candidate[0].digest).read_bytes()
    put = device.http.put(f"/{task.job}/answers", content=model)
    assert put.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert "no npy" in put.text
    assert device.answer(task) == HTTPStatus.NO_CONTENT
    late = results.MAGIC + b"late"
    put = device.http.put(f"/{task.job}/answers", content=late)
    assert put.status_code == HTTPStatus.CONFLICT
    assert not house.server.blobs.exists(sha256(late))


def test_what_the_device_did_not_sign_is_no_evidence(house: House) -> None:
    house.publish()
    device = house.device("bench-1")
    task = device.ask()
    assert task is not None
    failed = device.result(task, code="E_CRASH", reason="forged")
    for wrong, key in (
        (failed, PrivateKey.generate()),
        (msgspec.structs.replace(failed, candidate="0" * 64), None),
        (msgspec.structs.replace(failed, enrolment="0" * 32), None),
    ):
        status = device.send(wrong, key)
        assert status == HTTPStatus.UNPROCESSABLE_ENTITY, wrong
    measured = Measured(
        answers="0" * 64,
        length=1,
        samples=1,
        batch=1,
        latency_us=Latency(p50=1, p90=1, p99=1),
        load_ms=1,
        memory_kb=1,
    )
    unsent = device.result(task, measured=measured)
    assert device.send(unsent) == HTTPStatus.UNPROCESSABLE_ENTITY
    assert house.build().state is BuildState.AWAITING
    assert [row.state for row in house.evaluations()] == [State.ISSUED]
