"""Every recipe makes a variant that loads, runs, and is as good as its master."""

import io
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.server.builds.models import (
    CALIBRATION,
    EVALUATION,
    dense,
    digits,
    save,
    wide,
    write_set,
)

from modelfleet_manifests import delta
from modelfleet_manifests.digests import EMPTY, sha256
from modelfleet_manifests.profiles.recipe import (
    Clean,
    FourBits,
    Optimise,
    RaiseOpset,
    Recipe,
)
from modelfleet_manifests.release import Variant
from modelfleet_server.blobs.service import Blob
from modelfleet_server.builds import door, making, trials
from modelfleet_server.builds.choosing import Candidate
from modelfleet_server.builds.datasets import Arrays
from modelfleet_server.builds.errors import BuildError, DatasetError, ParityError
from modelfleet_server.builds.messages import BuildJob, Built
from modelfleet_server.builds.profiles import shipped_profiles
from modelfleet_server.builds.recipes import DEFAULT_PROFILES, plan_for, recipe_digest
from modelfleet_server.builds.toolchain import installed_tools
from modelfleet_server.builds.worker import Stored, make_variant

Make = Callable[..., Built]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Build in this process: what the child does, without its limits."""

    def build(
        profile: str,
        *,
        master: Path | None = None,
        evaluation: Path = EVALUATION,
        calibration: Path | None = CALIBRATION,
        base: Path | None = None,
        folder: Path | None = None,
        override: str = "",
        excluded: Mapping[str, str] | None = None,
        known: Sequence[Candidate] = (),
    ) -> Built:
        job = BuildJob(
            master=str(master or digits()),
            evaluation=str(evaluation),
            calibration=None if calibration is None else str(calibration),
            profile=plan_for(profile),
            bases={"model.onnx": str(base)} if base else {},
            override=override,
            excluded=dict(excluded or {}),
            known=list(known),
        )
        return making.make(job, folder or tmp_path, lambda _progress: None)

    return build


def load_golden(folder: Path) -> tuple[Arrays, Arrays]:
    with np.load(folder / "golden.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return (
        {name[3:]: a for name, a in arrays.items() if name.startswith("in.")},
        {name[4:]: a for name, a in arrays.items() if name.startswith("out.")},
    )


def test_what_is_built_where_nothing_is_said_is_there() -> None:
    assert set(DEFAULT_PROFILES) <= set(shipped_profiles())


@pytest.mark.parametrize("profile", shipped_profiles())
def test_each_variant_loads_runs_and_keeps_its_accuracy(
    make: Make, tmp_path: Path, profile: str
) -> None:
    built = make(profile)
    assert (tmp_path / "model.onnx").stat().st_size == built.model.length
    metrics = {name: Decimal(text) for name, text in built.metrics.items()}
    assert metrics["accuracy"] >= metrics["master-accuracy"] - Decimal("0.02")
    assert metrics["disagreement"] <= Decimal("0.03")
    assert 0 < metrics["latency-ms"] <= metrics["latency-p95-ms"]
    facts = door.check(tmp_path / "model.onnx")
    assert facts.schema == door.check(digits()).schema
    assert facts.opset == built.opset
    assert facts.ir <= 8

    session = ort.InferenceSession(tmp_path / "model.onnx")
    inputs, outputs = load_golden(tmp_path)
    assert len(inputs["x"]) == 16
    (logits,) = session.run(None, inputs)
    allowed = float(built.atol) + float(built.rtol) * np.abs(outputs["logits"])
    assert (np.abs(logits - outputs["logits"]) <= allowed).all()


@pytest.mark.parametrize(
    ("profile", "precision"),
    [
        ("jetson-orin-trt", "fp16"),
        ("jetson-nano-cuda", "fp16"),
        ("arm64-dotprod", "int8"),
        ("arm64", "int8"),
        ("armv7", "fp32"),
        ("generic", "fp32"),
    ],
)
def test_the_table_decides_the_precision(make: Make, profile: str, precision: str) -> None:
    assert make(profile).precision == precision


def test_jetson_nano_gets_no_opset_that_it_cannot_load(make: Make) -> None:
    assert make("jetson-nano-cuda").opset == 15


def test_the_fp32_variant_is_the_master_itself(make: Make, tmp_path: Path) -> None:
    make("generic")
    assert (tmp_path / "model.onnx").read_bytes() == digits().read_bytes()


@pytest.mark.parametrize("profile", ["jetson-orin-trt", "arm64-dotprod"])
def test_a_variant_is_built_the_same_twice(
    make: Make, tmp_path: Path, profile: str
) -> None:
    """An approver rebuilds it and compares digests."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (make(profile, folder=folder) for folder in folders)
    for name in ("model.onnx", "golden.npz"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1
    assert (first.recipe, first.toolchain) == (second.recipe, second.toolchain)


def test_the_int8_variant_is_a_third_and_has_whole_number_weights(
    make: Make, tmp_path: Path
) -> None:
    make("arm64")
    path = tmp_path / "model.onnx"
    assert path.stat().st_size < digits().stat().st_size / 3
    model = onnx.load(path)
    kinds = {t.data_type for t in model.graph.initializer if np.prod(t.dims) > 1000}
    assert kinds == {TensorProto.INT8}
    scales = {t.name: list(t.dims) for t in model.graph.initializer if "scale" in t.name}
    assert [48] in scales.values()  # one per output channel


def test_an_old_opset_is_raised_first(make: Make, tmp_path: Path) -> None:
    """Per-channel QDQ of an opset below 13 builds without an error and never loads."""
    master = save(
        wide(opset=11, weights=np.eye(4, 3, dtype=np.float32) * 5), tmp_path / "old.onnx"
    )
    samples = write_set(tmp_path / "set.npz")
    built = make("arm64", master=master, evaluation=samples, calibration=samples)
    assert built.precision == "int8"
    assert built.opset == 17


def test_without_a_calibration_set_arm_gets_fp32_and_the_reason(make: Make) -> None:
    built = make("arm64", calibration=None)
    assert built.precision == "fp32"
    assert "calibration set" in built.why
    assert not built.calibrated


def test_a_variant_that_loses_accuracy_is_not_chosen(make: Make, tmp_path: Path) -> None:
    """One huge input takes the whole range of int8; the others drown."""
    master, calibration = spoilt(tmp_path)
    samples = write_set(tmp_path / "set.npz")
    built = make("arm64", master=master, evaluation=samples, calibration=calibration)
    assert built.recipe_name == "int8-dynamic"
    assert "int8 loses" in built.why
    assert built.metrics["accuracy"] == "1.0000"


def test_a_variant_whose_numbers_overflow_is_not_chosen(make: Make, tmp_path: Path) -> None:
    """fp16 ends at 65,504."""
    weights = np.eye(4, 3, dtype=np.float32) * 60_000
    double = helper.make_node("Add", ["x", "x"], ["h"])
    master = save(dense(double, weights=weights), tmp_path / "master.onnx")
    samples = write_set(tmp_path / "set.npz")
    built = make("jetson-orin-trt", master=master, evaluation=samples, calibration=None)
    assert built.precision == "fp32"
    assert "the tensor 'scores' reaches" in built.why


def test_a_master_that_gives_no_numbers_is_refused(make: Make, tmp_path: Path) -> None:
    log = helper.make_node("Log", ["zero"], ["h"])
    zero = helper.make_node("Sub", ["x", "x"], ["zero"])
    master = save(dense(zero, log), tmp_path / "master.onnx")
    with pytest.raises(BuildError, match="not finite"):
        make(
            "generic",
            master=master,
            evaluation=write_set(tmp_path / "s.npz"),
            calibration=None,
        )


def test_a_model_that_is_no_classifier_is_refused(make: Make, tmp_path: Path) -> None:
    master = dense(helper.make_node("Identity", ["x"], ["h"]))
    del master.graph.node[:]
    master.graph.node.append(helper.make_node("ReduceSum", ["x"], ["scores"], keepdims=0))
    master.graph.output[0].type.tensor_type.shape.ClearField("dim")
    path = save(master, tmp_path / "master.onnx")
    with pytest.raises(DatasetError, match="classifier"):
        make(
            "generic",
            master=path,
            evaluation=write_set(tmp_path / "s.npz"),
            calibration=None,
        )


def test_a_fixed_batch_size_is_kept(make: Make, tmp_path: Path) -> None:
    master = save(dense(batch=8), tmp_path / "master.onnx")
    samples = write_set(tmp_path / "set.npz", samples=61)
    built = make("arm64", master=master, evaluation=samples, calibration=samples)
    assert built.metrics["accuracy"] == "1.0000"
    inputs, _ = load_golden(tmp_path)
    assert inputs["x"].shape == (8, 4)


def test_golden_inputs_are_near_the_decision_or_tell_candidates_apart(
    make: Make, tmp_path: Path
) -> None:
    make("arm64")
    inputs, _ = load_golden(tmp_path)
    with np.load(EVALUATION) as data:
        everything = data["x"]
    golden_rows = {row.tobytes() for row in inputs["x"]}

    def among(order: np.ndarray) -> int:
        return sum(everything[i].tobytes() in golden_rows for i in order[:8])

    scores = run(digits(), {"x": everything})
    best = np.sort(scores, axis=1)
    assert among(np.argsort(best[:, -1] - best[:, -2])) == 8
    off = np.abs(run(tmp_path / "model.onnx", {"x": everything}) - scores).max(axis=1)
    assert among(np.argsort(-off)) >= 4  # other candidates were tried too
    assert (tmp_path / "golden.npz").stat().st_size < 300_000


def test_golden_inputs_tell_a_variant_from_another(make: Make, tmp_path: Path) -> None:
    """Else a device that was given the wrong file would not notice."""
    folders = [tmp_path / "full", tmp_path / "int8"]
    for folder in folders:
        folder.mkdir()
    built, _ = make("generic", folder=folders[0]), make("arm64", folder=folders[1])
    inputs, outputs = load_golden(folders[0])
    allowed = float(built.atol) + float(built.rtol) * np.abs(outputs["logits"])
    right, wrong = (
        np.abs(run(folder / "model.onnx", inputs) - outputs["logits"]) <= allowed
        for folder in folders
    )
    assert right.all()
    assert not wrong.all(axis=1).any()  # each input of its own tells


def test_what_is_built_is_packed_where_that_makes_it_smaller(
    make: Make, tmp_path: Path
) -> None:
    built = make("generic")
    files = {
        sha256(path.read_bytes()): path
        for path in (tmp_path / "model.onnx", tmp_path / "golden.npz")
    }
    assert sha256((tmp_path / "model.onnx").read_bytes()) in {
        one.target for one in built.packed
    }
    assert built.problems == []
    for patch in built.packed:
        target = files[patch.target].read_bytes()
        assert patch.base == EMPTY
        assert (tmp_path / patch.name).stat().st_size == patch.length < len(target)
        result = io.BytesIO()
        with (tmp_path / patch.name).open("rb") as source:
            delta.apply(
                lambda _offset, _size: b"",
                source.read,
                result.write,
                new_digest=patch.target,
                new_length=len(target),
            )
        assert result.getvalue() == target


def test_every_candidate_is_kept_with_its_figures_and_a_verdict(make: Make) -> None:
    front = make("x86-vnni").front
    assert [one.name for one in front] == ["int8", "int8-tensor", "int8-dynamic", "fp32"]
    assert all(one.verdict for one in front)
    assert [one.chosen for one in front].count(True) == 1
    built = [one for one in front if not one.refused]
    assert {one.name for one in built} == {"int8", "int8-tensor", "fp32"}
    assert "does not suit models with Conv" in front[2].verdict
    for one in built:
        assert one.accuracy is not None
        assert one.accuracy > 0.9
        assert one.size is not None
        assert one.wire is not None
        assert one.wire <= one.size
        assert one.memory_mb is not None
    assert any(one.best for one in built)


def test_the_wire_counts_the_delta_from_what_the_fleet_runs(make: Make) -> None:
    front = make("x86-vnni", master=digits("1.1.0"), base=digits()).front
    full = next(one for one in front if one.name == "fp32")
    assert full.wire is not None
    assert full.size is not None
    assert full.wire < 0.6 * full.size


def test_what_was_excluded_elsewhere_is_not_built(make: Make) -> None:
    lost = "loses 12 points under Haswell"
    excluded = {name: f"{name} {lost}" for name in ("int8", "int8-tensor")}
    built = make("arm64", excluded=excluded)
    assert built.precision == "fp32"
    assert "12 points" in built.why


def test_the_next_best_is_built_alone_by_what_was_measured_before(
    make: Make, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    front = make("arm64", folder=first).front
    lost = {"int8": "int8 loses 12 points under Haswell"}
    built = make("arm64", folder=second, excluded=lost, known=front)
    assert built.recipe_name == "int8-tensor"
    assert [path.name for path in (second / "candidates").iterdir()] == ["int8-tensor"]
    verdicts = {one.name: one.verdict for one in built.front}
    assert verdicts["int8"] == lost["int8"]
    assert [one.name for one in built.front if one.chosen] == ["int8-tensor"]
    assert built.metrics == make("arm64", excluded=lost, known=front).metrics


def test_memory_is_what_loading_and_one_run_take(make: Make) -> None:
    """Above the interpreter, its libraries, and what building held before."""
    for one in make("arm64").front:
        if not one.refused:
            assert 0 < (one.memory_mb or 0) < 20


def spoilt(folder: Path) -> tuple[Path, Path]:
    """A calibration set in which one huge input takes the whole range of int8."""
    calibration = folder / "calibration.npz"
    np.savez(calibration, x=np.full((32, 4), 1000, np.float32))
    return save(wide(), folder / "master.onnx"), calibration


def test_an_approver_can_let_a_variant_pass_the_gate(make: Make, tmp_path: Path) -> None:
    master, calibration = spoilt(tmp_path)
    samples = write_set(tmp_path / "set.npz")
    built = make("arm64", master=master, evaluation=samples, calibration=calibration,
                 override="int8")  # fmt: skip
    assert built.precision == "int8"
    assert "an approver let it pass" in built.why
    assert "loses" in built.why


def test_an_override_cannot_make_what_cannot_be_built(make: Make) -> None:
    with pytest.raises(ParityError, match="could not be built"):
        make("arm64", calibration=None, override="int8")


def test_transformers_get_weights_in_whole_numbers(make: Make, tmp_path: Path) -> None:
    """Without convolutions and without a calibration set: the dynamic recipe."""
    rng = np.random.default_rng(1)
    master = save(wide(weights=rng.random((4, 3), np.float32)), tmp_path / "master.onnx")
    samples = write_set(tmp_path / "set.npz")
    built = make("arm64", master=master, evaluation=samples, calibration=None)
    assert (built.recipe_name, built.precision) == ("int8-dynamic", "int8")
    operators = door.check(tmp_path / "model.onnx").operators
    assert any("Integer" in name for name in operators)


def test_a_recipe_is_named_by_its_steps_and_tools() -> None:
    tools = installed_tools()
    recipes = [r for profile in shipped_profiles().values() for r in profile.candidates]
    digests = {recipe_digest(recipe, tools) for recipe in recipes}
    assert len(digests) == len({repr(recipe.steps) for recipe in recipes})
    full = plan_for("generic").baseline
    assert recipe_digest(full, tools) != recipe_digest(full, tools | {"onnx": "0.0.1"})


def run(path: Path, inputs: Arrays) -> np.ndarray:
    return np.asarray(ort.InferenceSession(path).run(None, inputs)[0])


def test_four_bit_weights_are_small_and_close(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((4, 3)).astype(np.float32)
    wide = helper.make_node("MatMul", ["x", "big"], ["wide"])
    back = helper.make_node("MatMul", ["wide", "down"], ["h"])
    master = dense(wide, back, weights=weights)
    big = rng.standard_normal((4, 512)).astype(np.float32)
    down = rng.standard_normal((512, 4)).astype(np.float32)
    master.graph.initializer.extend(
        [numpy_helper.from_array(big, "big"), numpy_helper.from_array(down, "down")]
    )
    path, out = save(master, tmp_path / "master.onnx"), tmp_path / "int4.onnx"
    recipe = Recipe(name="int4", precision="int4", steps=[RaiseOpset(), FourBits(block=16)])
    trials.build_candidate(path, recipe, None, out)
    assert out.stat().st_size < path.stat().st_size * 0.6
    assert door.check(out).operators == ["com.microsoft:MatMulNBits"]
    x = {"x": rng.standard_normal((64, 4)).astype(np.float32)}
    full, small = run(path, x), run(out, x)
    assert np.corrcoef(full.ravel(), small.ravel())[0, 1] > 0.98


def test_what_computes_nothing_is_left_out(tmp_path: Path) -> None:
    """Also what only a branch uses stays, and the answers are the same."""
    branches = [
        helper.make_graph(
            [helper.make_node("Mul", ["x", name], [f"by_{name}"])],
            name,
            [],
            [helper.make_tensor_value_info(f"by_{name}", TensorProto.FLOAT, ["n", 4])],
        )
        for name in ("two", "three")
    ]
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    model = wide()
    model.graph.node.insert(0, helper.make_node("Constant", [], ["flag"], value=yes))
    model.graph.node.insert(
        1,
        helper.make_node(
            "If", ["flag"], ["chosen"], then_branch=branches[0], else_branch=branches[1]
        ),
    )
    model.graph.node[2].input[0] = "chosen"
    model.graph.node.append(helper.make_node("Neg", ["x"], ["nowhere"]))
    for name in ("two", "three", "unused"):
        model.graph.initializer.append(numpy_helper.from_array(np.full(4, 2.0, "f"), name))
    model.doc_string, model.graph.node[0].doc_string = "by Ada", "a note"
    path, out = save(model, tmp_path / "master.onnx"), tmp_path / "clean.onnx"
    recipe = Recipe(name="clean", precision="fp32", steps=[RaiseOpset(), Clean()])
    trials.build_candidate(path, recipe, None, out)
    left = onnx.load(out)
    assert "Neg" not in {node.op_type for node in left.graph.node}
    names = {tensor.name for tensor in left.graph.initializer}
    assert (names >= {"two", "three", "up"}, "unused" in names) == (True, False)
    assert b"Ada" not in out.read_bytes()
    x = {"x": np.random.default_rng(4).random((8, 4)).astype(np.float32)}
    assert np.array_equal(run(path, x), run(out, x))


def test_a_graph_can_be_simplified_for_every_machine(tmp_path: Path) -> None:
    twice = [helper.make_node("Identity", ["x"], ["a"]),
             helper.make_node("Identity", ["a"], ["h"])]  # fmt: skip
    path, out = save(dense(*twice), tmp_path / "master.onnx"), tmp_path / "simple.onnx"
    recipe = Recipe(name="simple", precision="fp32", steps=[RaiseOpset(), Optimise()])
    trials.build_candidate(path, recipe, None, out)
    assert door.check(out).operators == ["MatMul"]


def test_a_variant_is_a_statement_that_a_release_can_hold(make: Make) -> None:
    built = make("arm64")
    blob = Blob("a" * 64, 5)
    variant = make_variant("arm64", Stored(built, blob, blob), "b" * 64)
    assert isinstance(variant, Variant)
    assert variant.name == "arm64-int8"
    assert variant.metrics["accuracy"] == built.metrics["accuracy"]
