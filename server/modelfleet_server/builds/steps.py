"""The steps of a recipe, done with ONNX and ONNX Runtime; only in a limited child."""

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import ModelProto, helper, version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from modelfleet_server.builds.datasets import Arrays, Dataset
from modelfleet_server.builds.errors import BuildError
from modelfleet_server.builds.graph import domain_of, drop_unused_domains, sort_nodes
from modelfleet_server.builds.recipes import QUANTIZED, SAMPLES, Recipe, Tools

HALF_MAX = 65504
"""The largest fp16."""
TOOLS = ("numpy", "onnx", "onnxruntime")


def installed_tools() -> Tools:
    """Return the versions of all tools that take part in a build."""
    return {name: importlib.metadata.version(name) for name in TOOLS}


def opset_of(model: ModelProto) -> int:
    """Return the opset of ai.onnx that `model` is made for."""
    return int(next(i.version for i in model.opset_import if domain_of(i.domain) == ""))


def build(
    master: Path, recipe: Recipe, calibration: Dataset | None, out: Path, *, batch: int
) -> None:
    """Write to `out` what `recipe` makes of `master`. The folder of `out` is scratch.

    Args:
        master: A model that passed the door, without external data.
        recipe: What to do.
        calibration: Samples, where the recipe is calibrated.
        out: Where the variant goes.
        batch: How many samples the model takes at once.

    Raises:
        BuildError: A step failed.
    """
    model = _with_opset(onnx.load(master), recipe)
    if model is None:
        if recipe.precision == "fp32":
            out.write_bytes(master.read_bytes())  # nothing to do: the master's own bytes
            return
        model = onnx.load(master)
    if recipe.precision == "fp16":
        model = _halve(model)
        sort_nodes(model.graph)
    if recipe.precision == "int8":
        if calibration is None:
            raise BuildError(
                "int8 needs a calibration set and this version has none",
                "Publish with --calibration FILE.npz (inputs as in the evaluation set).",
            )
        model = _quantize(model, recipe, calibration, out, batch)
    drop_unused_domains(model)
    _lower_ir(model)
    onnx.save(model, out)


def _with_opset(model: ModelProto, recipe: Recipe) -> ModelProto | None:
    """Return the model with the opset that the recipe wants, None if it has it."""
    has = opset_of(model)
    if has == recipe.opset or (has > recipe.opset and not recipe.ceiling):
        return None
    try:
        return version_converter.convert_version(model, recipe.opset)
    except Exception as error:
        raise BuildError(
            f"opset {has} could not be converted to {recipe.opset}: {_first(error)}",
            f"Export the master with opset {recipe.opset}.",
        ) from error


def _halve(model: ModelProto) -> ModelProto:
    try:
        # inputs and outputs stay as they are: every variant has its master's schema
        halved: ModelProto = convert_float_to_float16(model, keep_io_types=True)
    except Exception as error:
        raise BuildError(
            f"fp16 conversion failed: {_first(error)}", "Build another profile."
        ) from error
    return halved


def check_half_range(master: Path, samples: Iterator[Arrays], scratch: Path) -> None:
    """Check that no tensor of the master leaves the range of fp16.

    Running the fp16 variant here would not show it: a CPU computes it in 32 bits.

    Args:
        master: The full-precision model.
        samples: Batches that it is run on.
        scratch: A file to write to; removed.

    Raises:
        BuildError: One does; it names the tensor.
    """
    try:
        calibrator = create_calibrator(
            master, None, str(scratch), calibrate_method=CalibrationMethod.MinMax
        )
        calibrator.collect_data(_Reader(samples))
        ranges = {
            name: max(abs(float(edge.item())) for edge in data.range_value)
            for name, data in calibrator.compute_data().data.items()
        }
    except Exception as error:
        raise BuildError(
            f"the range of its tensors could not be measured: {_first(error)}",
            "Build another profile.",
        ) from error
    finally:
        scratch.unlink(missing_ok=True)
    name = max(ranges, key=lambda key: ranges[key], default="")
    if name and ranges[name] > HALF_MAX:
        raise BuildError(
            f"fp16 would overflow: the tensor {name!r} reaches {ranges[name]:.0f}, and "
            f"fp16 ends at {HALF_MAX}",
            "Train with smaller activations, or build another profile.",
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Feeds the calibration set to the quantizer once."""

    def __init__(self, batches: Iterator[Arrays]) -> None:
        self._batches = batches

    def get_next(self) -> Arrays | None:
        return next(self._batches, None)


def _quantize(
    model: ModelProto, recipe: Recipe, calibration: Dataset, out: Path, batch: int
) -> ModelProto:
    ready, made = out.with_suffix(".ready"), out.with_suffix(".made")
    samples = calibration.take(slice(0, SAMPLES))
    whole = samples.take(slice(0, len(samples) // batch * batch))
    try:
        quant_pre_process(model, str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(made),
            _Reader(whole.batches(batch)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            reduce_range=recipe.reduce_range,
            activation_type=QuantType[recipe.activations],
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(made)
    except Exception as error:
        raise BuildError(
            f"quantization failed: {_first(error)}", "Build another profile."
        ) from error
    finally:
        for path in (ready, made):
            path.unlink(missing_ok=True)


def _lower_ir(model: ModelProto) -> None:
    """Write the oldest file format that knows these opsets: old runtimes refuse newer."""
    model.ir_version = helper.find_min_ir_version_for(
        model.opset_import, ignore_unknown=True
    )


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
