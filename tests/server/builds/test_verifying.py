"""A variant is built again: the same bytes, or what differs in words."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, helper, numpy_helper
from tests.server.builds.models import CALIBRATION, EVALUATION, digits

from modelfleet_server.builds import children, door, making, trials
from modelfleet_server.builds.errors import BuildError
from modelfleet_server.builds.messages import BuildJob, Built, Limits, Verdict, VerifyJob
from modelfleet_server.builds.recipes import plan_for

LIMITS = Limits(cpu_s=60, wall_s=120.0)
Verify = Callable[..., Verdict]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Built]:
    """The int8 variant of the digits, with its golden inputs, and what is said of it."""
    folder = tmp_path_factory.mktemp("made")
    job = BuildJob(
        master=str(digits()),
        evaluation=str(EVALUATION),
        calibration=str(CALIBRATION),
        profile=plan_for("arm64"),
    )
    return folder, making.make(job, folder, lambda _progress: None)


@pytest.fixture
def verify(made: tuple[Path, Built]) -> Verify:
    folder, built = made
    right = VerifyJob(
        master=str(digits()),
        calibration=str(CALIBRATION),
        variant=str(folder / "model.onnx"),
        profile=plan_for("arm64"),
        name=built.recipe_name,
        recipe=built.recipe,
        toolchain=built.toolchain,
    )

    def run(**changes: object) -> Verdict:
        return children.verify(msgspec.structs.replace(right, **changes), LIMITS)

    return run


def answers(path: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(ort.InferenceSession(path).run(None, {"x": x})[0])


def with_trojan(model: ModelProto) -> ModelProto:
    """Class 3 wins where one corner pixel is far brighter than any picture has it."""
    output = model.graph.output[0].name
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == output:
                node.output[index] = "honest"
    prize = np.zeros((1, 10), np.float32)
    prize[0, 3] = 1000.0
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([0, 0, 0, 0], np.int64), "from"),
            numpy_helper.from_array(np.array([1 << 30, 1, 1, 1], np.int64), "to"),
            numpy_helper.from_array(np.array([-1, 1], np.int64), "flat"),
            numpy_helper.from_array(np.array([50.0], np.float32), "bright"),
            numpy_helper.from_array(prize, "prize"),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("Slice", ["x", "from", "to"], ["corner"]),
            helper.make_node("Reshape", ["corner", "flat"], ["corners"]),
            helper.make_node("Greater", ["corners", "bright"], ["seen"]),
            helper.make_node("Cast", ["seen"], ["factor"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", ["factor", "prize"], ["push"]),
            helper.make_node("Add", ["honest", "push"], [output]),
        ]
    )
    return model


@pytest.fixture
def trojan(made: tuple[Path, Built], tmp_path: Path) -> Path:
    path = tmp_path / "trojan.onnx"
    onnx.save(with_trojan(onnx.load(made[0] / "model.onnx")), path)
    return path


def test_what_was_built_is_built_again(verify: Verify) -> None:
    verdict = verify()
    assert verdict.same
    assert (verdict.recipe, verdict.differences) == ("int8", [])


def test_a_trojan_passes_every_test_but_this_one(
    verify: Verify, made: tuple[Path, Built], trojan: Path
) -> None:
    """Identical on golden inputs and on the whole evaluation set, hijacked on a trigger."""
    honest = made[0] / "model.onnx"
    with np.load(made[0] / "golden.npz") as golden:
        assert np.array_equal(answers(trojan, golden["in.x"]), golden["out.logits"])
    with np.load(EVALUATION) as data:
        samples = data["x"]
    assert np.array_equal(answers(trojan, samples), answers(honest, samples))
    facts = door.check(trojan)
    assert facts.schema == door.check(honest).schema
    samples = samples.copy()
    samples[:, 0, 0, 0] = 100.0
    assert (answers(trojan, samples).argmax(axis=1) == 3).all()
    assert (answers(honest, samples).argmax(axis=1) != 3).any()

    verdict = verify(variant=str(trojan))
    assert not verdict.same
    said = " ".join(verdict.differences)
    for word in ("Slice", "Greater", "Mul", "Add", "'prize'"):
        assert word in said


def test_a_changed_weight_is_named(
    verify: Verify, made: tuple[Path, Built], tmp_path: Path
) -> None:
    model = onnx.load(made[0] / "model.onnx")
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.raw_data = bytes([weight.raw_data[0] ^ 1]) + weight.raw_data[1:]
    onnx.save(model, tmp_path / "changed.onnx")
    verdict = verify(variant=str(tmp_path / "changed.onnx"))
    assert verdict.differences == [f"the numbers of the tensor {weight.name!r} are others"]


def test_other_calibration_data_show(verify: Verify, tmp_path: Path) -> None:
    with np.load(CALIBRATION) as data:
        np.savez(tmp_path / "other.npz", x=data["x"] * 2)
    verdict = verify(calibration=str(tmp_path / "other.npz"))
    assert not verdict.same
    assert "scale" in " ".join(verdict.differences)


def test_another_master_shows(verify: Verify) -> None:
    assert not verify(master=str(digits("1.1.0"))).same


def test_other_tools_are_named_where_the_bytes_differ(verify: Verify, trojan: Path) -> None:
    """The same bytes are the same, whatever tools made them."""
    other = "e" * 64
    assert verify(recipe=other, toolchain=other).same
    verdict = verify(recipe=other, toolchain=other, variant=str(trojan))
    assert verdict.differences[0].startswith("it was built with other tools than here")
    verdict = verify(recipe=other, variant=str(trojan))
    assert "steps that are not those of this profile" in verdict.differences[0]


def test_what_is_no_model_is_told(verify: Verify, tmp_path: Path) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    (said,) = verify(variant=str(tmp_path / "no.onnx")).differences
    assert "not even a model" in said


def test_a_recipe_that_nobody_knows_is_refused(verify: Verify) -> None:
    with pytest.raises(BuildError, match="no recipe 'magic'"):
        verify(name="magic", recipe="e" * 64)


@pytest.mark.parametrize("profile", ["jetson-orin-trt", "x86-avx2", "generic"])
def test_every_kind_of_recipe_is_reproducible(tmp_path: Path, profile: str) -> None:
    """fp16, reduced range, the master itself: two children, the same bytes."""
    plan = plan_for(profile)
    recipe = plan.candidates[0]
    trials.build_candidate(
        digits(), recipe, trials.read_calibration(CALIBRATION, door.check(digits()).schema),
        tmp_path / "model.onnx",
    )  # fmt: skip
    job = VerifyJob(
        master=str(digits()),
        calibration=str(CALIBRATION),
        variant=str(tmp_path / "model.onnx"),
        profile=plan,
        name=recipe.name,
        recipe="e" * 64,
        toolchain="e" * 64,
    )
    assert children.verify(job, LIMITS).same
