"""A variant is scored as its devices compute, and what fails there does not ship."""

import os
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from tests.server.builds.models import CALIBRATION, EVALUATION, dense, digits, save
from tests.support import system

from modelfleet_manifests.profiles.definition import Emulated, Objective, Profile
from modelfleet_manifests.profiles.recipe import RaiseOpset, Recipe, Static
from modelfleet_server.builds import children, door, emulation, scoring
from modelfleet_server.builds.choosing import interval
from modelfleet_server.builds.errors import DatasetError
from modelfleet_server.builds.launcher import HERE, Machine
from modelfleet_server.builds.messages import AnswerJob, BuildJob, Built, GradeJob, Scores
from modelfleet_server.builds.probe import EXACT, SATURATED, make_probe
from modelfleet_server.builds.recipes import plan_for

HASWELL = Emulated(arch="x86_64", cpu="Haswell")
ARM_ROOT = system.ROOT / ".cache" / "arm64" / "root" / "bin"


@pytest.fixture
def qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test needs QEMU, wherever `make system` put it."""
    monkeypatch.setenv("PATH", system.PLACES)
    if emulation.find_machine(HASWELL) is None:
        system.give_up("qemu-x86_64")


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test needs the root of 64-bit ARM programs, which is not made for it."""
    monkeypatch.setenv("PATH", f"{ARM_ROOT}{os.pathsep}{os.environ['PATH']}")
    if emulation.find_machine(Emulated(arch="aarch64", cpu="cortex-a76")) is None:
        pytest.skip("there is no root of ARM programs: tools/arm64_root.sh")


def proven(job: BuildJob, folder: Path) -> tuple[Built, Path]:
    schema = door.check(Path(job.master)).schema
    limits = children.limits_for(Path(job.master).stat().st_size)
    return emulation.build_proven(job, limits, folder, schema, children.Ask())


def digits_job(profile: Profile) -> BuildJob:
    return BuildJob(
        master=str(digits()),
        evaluation=str(EVALUATION),
        calibration=str(CALIBRATION),
        profile=profile,
    )


def assumed(profile: str) -> Profile:
    """The profile with int8 wherever the gate lets it pass, to see it emulated."""
    plan = plan_for(profile)
    objective = msgspec.structs.replace(plan.objective, latency="assumed")
    return msgspec.structs.replace(plan, objective=objective)


def answer_here() -> int:
    session = ort.InferenceSession(make_probe(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"a": np.full((1, 64), 255, np.uint8)})
    return int(answer.item())


def test_the_probe_is_small_and_tells_how_this_machine_computes() -> None:
    data = make_probe()
    assert len(data) <= 200
    assert data == make_probe()
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    assert answer_here() in (EXACT, SATURATED)


def test_what_cannot_be_emulated_here_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    built, _ = proven(digits_job(assumed("x86-avx2")), tmp_path)
    assert built.recipe_name == "int8"
    assert built.unproven == ["Haswell: qemu-x86_64 is not installed here"]
    assert emulation.find_machine(Emulated(arch="s390x", cpu="max")) is None


def test_an_emulator_that_fails_proves_nothing_and_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "qemu-x86_64-static"
    program.write_text("#!/bin/sh\necho no such processor >&2\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    built, _ = proven(digits_job(assumed("x86-avx2")), tmp_path)
    assert built.recipe_name == "int8"
    (said,) = built.unproven
    assert said.startswith("Haswell: the process ended with exit code 3")
    assert "no such processor" in said


def test_full_precision_needs_no_proof(tmp_path: Path) -> None:
    plan = msgspec.structs.replace(
        assumed("x86-avx2"), candidates=plan_for("generic").candidates
    )
    built, _ = proven(digits_job(plan), tmp_path)
    assert (built.unproven, built.front[0].emulated) == ([], {})


@pytest.mark.parametrize(
    ("others", "accuracy", "words"),
    [
        (0, 1.0, ""),
        (2, 0.98, ""),
        (12, 0.88, "loses 0.1200 of accuracy"),
        (10, 0.99, "on 10 of 100 samples"),
    ],
)
def test_the_budget_is_the_same_as_here(others: int, accuracy: float, words: str) -> None:
    scores = Scores(
        accuracy=accuracy, master_accuracy=1.0, disagreements=others, samples=100
    )
    reason = emulation.judge("int8", scores, plan_for("x86-avx2"))
    assert words in reason
    assert bool(reason) is bool(words)


def saturating(folder: Path) -> BuildJob:
    """Sums of many large products: U8S8 with weights of 8 bits clips each pair."""
    tiled = helper.make_node("Concat", ["x"] * 256, ["wide"], axis=1)
    model = dense(tiled, helper.make_node("MatMul", ["wide", "big"], ["h"]))
    big = np.ones((1024, 4), np.float32)
    for kind in range(3):
        big[kind::4, kind] = 0.7
    model.graph.initializer.append(numpy_helper.from_array(big, "big"))
    path = save(model, folder / "master.onnx")
    rng = np.random.default_rng(7)
    x = rng.random((200, 4)).astype(np.float32)
    (scores,) = ort.InferenceSession(path).run(None, {"x": x})
    np.savez(folder / "set.npz", x=x, y=scores.argmax(axis=1))
    plan = assumed("x86-avx2")
    exact = Recipe(name="int8", precision="int8",
                   steps=[RaiseOpset(), Static(reduce_range=False)])  # fmt: skip
    narrow = msgspec.structs.replace(
        exact, name="int8-narrow", steps=[RaiseOpset(), Static(reduce_range=True)]
    )
    objective = msgspec.structs.replace(plan.objective, accuracy_drop="0.1",
                                        disagreement="0.2")  # fmt: skip
    return BuildJob(
        master=str(path),
        evaluation=str(folder / "set.npz"),
        calibration=str(folder / "set.npz"),
        profile=msgspec.structs.replace(
            plan, candidates=[exact, narrow, plan.baseline], objective=objective
        ),
    )


@pytest.mark.usefixtures("qemu")
@pytest.mark.slow
def test_a_variant_that_saturates_on_its_devices_does_not_ship(tmp_path: Path) -> None:
    """It is as good as its master where VNNI computes exactly."""
    job = saturating(tmp_path)
    (tmp_path / "builds").mkdir()
    built, folder = proven(job, tmp_path / "builds")
    assert built.recipe_name == "int8-narrow"
    assert "int8 " in built.front[0].verdict
    if answer_here() == EXACT:  # else it was refused before it came to that
        assert "on an emulated Haswell" in built.front[0].verdict
    assert built.front[1].emulated["Haswell"] > 0.9
    assert (folder / "model.onnx").stat().st_size == built.model.length


@pytest.mark.usefixtures("arm")
@pytest.mark.parametrize("profile", ["arm64", "arm64-dotprod"])
@pytest.mark.slow
def test_the_shipped_recipes_keep_their_accuracy_on_arm(
    tmp_path: Path, profile: str
) -> None:
    plan = plan_for(profile)
    built, _ = proven(digits_job(plan), tmp_path)
    (chosen,) = [one for one in built.front if one.chosen]
    assert (chosen.name, built.unproven) == ("int8", [])
    (accuracy,) = chosen.emulated.values()
    assert abs(accuracy - (chosen.accuracy or 0)) < 0.02


@pytest.mark.usefixtures("qemu")
@pytest.mark.slow
def test_the_shipped_recipe_keeps_its_accuracy_without_vnni(tmp_path: Path) -> None:
    built, _ = proven(digits_job(assumed("x86-avx2")), tmp_path)
    (chosen,) = [one for one in built.front if one.chosen]
    assert chosen.name == "int8"
    assert abs(chosen.emulated["Haswell"] - (chosen.accuracy or 0)) < 0.02
    assert built.unproven == []


def answers_of(folder: Path, machine: Machine, samples: int = 100) -> Scores:
    """What `machine` answers with the digits' master, judged here."""
    schema = door.check(digits()).schema
    path = folder / "answers.npy"
    asked = AnswerJob(
        model=str(digits()),
        evaluation=str(EVALUATION),
        schema=schema,
        samples=samples,
        answers=str(path),
    )
    ask = children.Ask()
    assert children.answer(asked, emulation.LIMITS, ask, machine) == samples
    wanted = GradeJob(
        master=str(digits()), evaluation=str(EVALUATION), schema=schema, answers=str(path)
    )
    return children.grade(wanted, emulation.NATIVE, ask)


@pytest.mark.parametrize(("least", "answered"), [(0, 8), (20, 24), (1000, 100)])
def test_a_slow_processor_answers_at_least_what_a_proof_needs(
    tmp_path: Path, least: int, answered: int
) -> None:
    asked = AnswerJob(
        model=str(digits()),
        evaluation=str(EVALUATION),
        schema=door.check(digits()).schema,
        samples=100,
        least=least,
        enough_s=0.0,
        answers=str(tmp_path / "answers.npy"),
    )
    assert scoring.answer(asked) == answered
    assert len(np.load(tmp_path / "answers.npy")) == answered


def test_the_fewest_samples_of_a_proof_allow_one_other_answer() -> None:
    budget = float(Objective().disagreement)
    assert interval(1, emulation.LEAST)[1] <= budget < interval(2, emulation.LEAST)[1]


def test_a_child_may_be_started_by_another_program(tmp_path: Path) -> None:
    """As an emulator is: a program that starts the one behind it."""
    program = tmp_path / "emulator"
    program.write_text('#!/bin/sh\n[ "$QEMU_CPU" = max ] || exit 3\nexec "$@"\n')
    program.chmod(0o700)
    machine = Machine((str(program), *HERE.start), {"QEMU_CPU": "max"}, foreign=True)
    found = answers_of(tmp_path, machine)
    assert found == answers_of(tmp_path, HERE)
    assert (found.disagreements, found.samples) == (0, 100)
    assert found.accuracy == found.master_accuracy > 0.9


@pytest.mark.usefixtures("arm")
@pytest.mark.slow
def test_another_architecture_answers_with_its_own_runtime(tmp_path: Path) -> None:
    machine = emulation.find_machine(Emulated(arch="aarch64", cpu="cortex-a72"))
    assert machine
    found = answers_of(tmp_path, machine, samples=32)
    assert (found.disagreements, found.samples) == (0, 32)


def test_answers_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "answers.npy"
    wanted = GradeJob(master=str(digits()), evaluation=str(EVALUATION),
                      schema=door.check(digits()).schema, answers=str(path))  # fmt: skip
    for content in (None, b"no array", np.array([{}])):
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            np.save(path, content)
        with pytest.raises(DatasetError, match="answers cannot be read"):
            children.grade(wanted, emulation.NATIVE, children.Ask())
