"""Every recipe makes a variant that loads, runs, and is as good as its master."""

import io
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from tests.server.builds.models import (
    CALIBRATION,
    EVALUATION,
    dense,
    digits,
    save,
    write_set,
)

from modelfleet_manifests import delta
from modelfleet_manifests.digests import sha256
from modelfleet_manifests.profiles import PROFILES
from modelfleet_manifests.release import Variant
from modelfleet_server.blobs.service import Blob
from modelfleet_server.builds import door, evaluate, making
from modelfleet_server.builds.datasets import Arrays
from modelfleet_server.builds.domain import BuildJob, Built
from modelfleet_server.builds.errors import BuildError, DatasetError, UnknownProfileError
from modelfleet_server.builds.making import Candidate, Trial, choose
from modelfleet_server.builds.recipes import (
    DEFAULT_PROFILES,
    FP32,
    PLANS,
    VNNI,
    Plan,
    Recipe,
    plan_for,
)
from modelfleet_server.builds.steps import installed_tools
from modelfleet_server.builds.worker import make_variant

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
        bases: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> Built:
        job = BuildJob(
            master=str(master or digits()),
            evaluation=str(evaluation),
            calibration=None if calibration is None else str(calibration),
            profile=profile,
            bases=dict(bases or {}),
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


def test_every_profile_of_the_fleet_has_a_plan() -> None:
    assert set(PLANS) == set(PROFILES)
    assert set(DEFAULT_PROFILES) <= set(PLANS)
    with pytest.raises(UnknownProfileError, match="abacus"):
        plan_for("abacus")


@pytest.mark.parametrize("profile", PLANS)
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
        dense(opset=11, weights=np.eye(4, 3, dtype=np.float32) * 5), tmp_path / "old.onnx"
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
    weights = np.eye(4, 3, dtype=np.float32)
    calibration = tmp_path / "calibration.npz"
    np.savez(calibration, x=np.full((32, 4), 1000, np.float32))
    master = save(dense(weights=weights), tmp_path / "master.onnx")
    samples = write_set(tmp_path / "set.npz")
    built = make("arm64", master=master, evaluation=samples, calibration=calibration)
    assert built.precision == "fp32"
    assert "loses" in built.why
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


def test_golden_inputs_are_those_the_master_is_least_sure_of(
    make: Make, tmp_path: Path
) -> None:
    make("generic")
    inputs, outputs = load_golden(tmp_path)
    with np.load(EVALUATION) as data:
        everything = data["x"]
    (scores,) = ort.InferenceSession(digits()).run(None, {"x": everything})

    def margins(logits: np.ndarray) -> np.ndarray:
        best = np.sort(logits, axis=1)
        return np.asarray(best[:, -1] - best[:, -2])

    chosen = margins(outputs["logits"])
    assert np.allclose(chosen, np.sort(margins(scores))[:16], atol=1e-4)
    assert inputs["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("profile", "share"), [("generic", 0.6), ("jetson-orin-trt", 0.35), ("arm64", 0.2)]
)
def test_the_fine_tuned_version_is_a_small_patch(
    make: Make, tmp_path: Path, profile: str, share: float
) -> None:
    """Against a zstd-compressed full file, which is more than 0.8 of it."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    make(profile, folder=old)
    base = (old / "model.onnx").read_bytes()
    built = make(
        profile,
        master=digits("1.1.0"),
        bases={sha256(base): str(old / "model.onnx")},
        folder=new,
    )
    (patch,) = built.patches
    assert patch.base == sha256(base)
    assert (new / patch.name).stat().st_size == patch.length
    assert patch.length < share * built.model.length
    target = (new / "model.onnx").read_bytes()
    result = io.BytesIO()
    with (new / patch.name).open("rb") as source:
        delta.apply(
            lambda offset, size: base[offset : offset + size],
            source.read,
            result.write,
            new_digest=sha256(target),
            new_length=len(target),
        )
    assert result.getvalue() == target


def test_a_patch_that_saves_nothing_is_not_offered(make: Make, tmp_path: Path) -> None:
    master = save(dense(), tmp_path / "master.onnx")
    samples = write_set(tmp_path / "set.npz")
    bases = {sha256(digits().read_bytes()): str(digits())}
    built = make(
        "generic", master=master, evaluation=samples, calibration=None, bases=bases
    )
    assert (built.patches, built.problems) == ([], [])


def test_a_patch_that_cannot_be_made_is_told_and_fails_nothing(make: Make) -> None:
    built = make("generic", bases={"f" * 64: "/nowhere/at/all"})
    assert built.patches == []
    assert built.problems[0].startswith(f"no delta from {'f' * 64}: FileNotFoundError")


def candidate(recipe: Recipe, *, accuracy: float, latency_ms: float) -> Candidate:
    loaded = evaluate.Loaded(digits(), door.check(digits()).schema, "the model")
    trial = Trial(recipe, digits(), loaded, np.zeros(1, np.intp))
    return Candidate(trial, accuracy, 0.0, latency_ms, latency_ms)


@pytest.mark.parametrize(
    ("latency_ms", "chosen"), [(0.5, "int8"), (0.79, "int8"), (0.81, "fp32"), (2.0, "fp32")]
)
def test_x86_gets_int8_only_where_it_measures_clearly_faster(
    latency_ms: float, chosen: str
) -> None:
    both = [
        candidate(FP32, accuracy=0.97, latency_ms=1.0),
        candidate(VNNI, accuracy=0.97, latency_ms=latency_ms),
    ]
    found, why = choose(Plan(VNNI, FP32, faster=True), both)
    assert found.trial.recipe.precision == chosen
    assert "faster" in why


def test_a_recipe_is_named_by_its_steps_and_tools() -> None:
    tools = installed_tools()
    digests = {recipe.digest(tools) for plan in PLANS.values() for recipe in plan.recipes}
    assert len(digests) == len({r for plan in PLANS.values() for r in plan.recipes})
    assert FP32.digest(tools) != FP32.digest(tools | {"onnx": "0.0.1"})


def test_a_variant_is_a_statement_that_a_release_can_hold(make: Make) -> None:
    built = make("arm64")
    blob = Blob("a" * 64, 5)
    variant = make_variant("arm64", built, blob, blob, "b" * 64)
    assert isinstance(variant, Variant)
    assert variant.name == "arm64-int8"
    assert variant.metrics["accuracy"] == built.metrics["accuracy"]
