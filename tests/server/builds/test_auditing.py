"""What passes for another machine's rounding, and what no rounding explains."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper
from tests.server.builds.models import CALIBRATION, digits

from modelfleet_manifests.profiles.recipe import Recipe
from modelfleet_server.builds import door, trials
from modelfleet_server.builds.auditing import Grounds, audit
from modelfleet_server.builds.recipes import plan_for
from modelfleet_server.builds.verifying import QUANTIZING

RECIPES = {
    "static": ("arm64", "int8"),
    "halved": ("jetson-orin-trt", "fp16"),
}


def _recipe(kind: str) -> Recipe:
    profile, precision = RECIPES[kind]
    return next(it for it in plan_for(profile).candidates if it.precision == precision)


def _build(recipe: Recipe, folder: Path) -> ModelProto:
    samples = trials.read_calibration(CALIBRATION, door.check(digits()).schema)
    out = folder / "model.onnx"
    trials.build_candidate(digits(), recipe, samples, out)
    return onnx.load(out)


@pytest.fixture(scope="module", params=sorted(RECIPES))
def grounds(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Grounds:
    recipe = _recipe(request.param)
    steps = []
    for step in recipe.steps:
        if isinstance(step, QUANTIZING):
            break
        steps.append(step)
    folder = tmp_path_factory.mktemp("audit")
    built = _build(recipe, folder)
    return Grounds(built, _build(msgspec.structs.replace(recipe, steps=steps), folder))


@pytest.fixture
def variant(grounds: Grounds) -> ModelProto:
    model = ModelProto()
    model.CopyFrom(grounds.built)
    return model


def _change(
    model: ModelProto, ending: str, change: Callable[[np.ndarray], np.ndarray]
) -> bool:
    """Change the largest tensor whose name ends so; say whether there is one."""
    them = [one for one in model.graph.initializer if one.name.endswith(ending)]
    if not them:
        return False
    tensor = max(them, key=lambda one: int(np.prod(one.dims)))
    array = numpy_helper.to_array(tensor)
    changed = np.asarray(change(array.copy()), array.dtype).reshape(array.shape)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    return True


def test_what_was_built_here_passes(variant: ModelProto, grounds: Grounds) -> None:
    assert audit(variant, grounds) == []


@pytest.mark.parametrize("grounds", ["static"], indirect=True)
def test_last_digits_of_scales_and_zero_points_pass(
    variant: ModelProto, grounds: Grounds
) -> None:
    """As calibration on another processor finds them."""
    for ending, change in (
        ("logits_scale", lambda it: it * 1.004),
        ("x_zero_point", lambda it: it + 1),
    ):
        assert _change(variant, ending, change)
    assert audit(variant, grounds) == []


@pytest.mark.parametrize("grounds", ["static"], indirect=True)
@pytest.mark.parametrize("amount", [1.03, 0.97, 100.0, -1.0, np.nan])
def test_another_scale_does_not_pass(
    variant: ModelProto, grounds: Grounds, amount: float
) -> None:
    assert _change(variant, "_scale", lambda it: it * np.float32(amount))
    assert audit(variant, grounds)


def test_weights_rounded_the_other_way_do_not_pass(
    variant: ModelProto, grounds: Grounds
) -> None:
    """Each within a step of the master's: enough for a hidden behaviour."""
    weights = max(
        (one for one in variant.graph.initializer if one.data_type in {3, 10}),
        key=lambda one: int(np.prod(one.dims)),
    )
    array = numpy_helper.to_array(weights).copy()
    if array.dtype == np.int8:
        array[array < 127] += 1
    else:
        array = np.nextafter(array, np.float16(np.inf))
    weights.CopyFrom(numpy_helper.from_array(array, weights.name))
    (said,) = audit(variant, grounds)
    assert said.startswith(weights.name)


def test_a_graph_with_more_in_it_does_not_pass(
    variant: ModelProto, grounds: Grounds
) -> None:
    output = variant.graph.output[0].name
    variant.graph.node.append(helper.make_node("Identity", [output], ["more"]))
    assert "its graph is not the one" in audit(variant, grounds)[0]


def test_a_weight_of_another_name_or_size_does_not_pass(
    variant: ModelProto, grounds: Grounds
) -> None:
    weight = max(variant.graph.initializer, key=lambda one: int(np.prod(one.dims)))
    weight.name = "other"
    assert audit(variant, grounds)
