"""The steps of a recipe, done with ONNX and ONNX Runtime; only in a limited child."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import onnxruntime as ort
from onnx import ModelProto, helper, version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from modelfleet_manifests.profiles.recipe import (
    Clean,
    Dynamic,
    External,
    FourBits,
    Half,
    Optimise,
    Prepare,
    RaiseOpset,
    Recipe,
    Static,
    Step,
)
from modelfleet_server.builds.cleaning import clean
from modelfleet_server.builds.datasets import Arrays, Dataset
from modelfleet_server.builds.errors import BuildError
from modelfleet_server.builds.fourbits import quantize_blocks
from modelfleet_server.builds.graph import domain_of, drop_unused_domains, sort_nodes
from modelfleet_server.builds.mapping import move_out

HALF_MAX = 65504
"""The largest fp16."""
_LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
}


class Bench(NamedTuple):
    """What steps work with.

    Attributes:
        folder: Scratch, and where the variant goes.
        calibration: Samples, where the version has some.
        batch: How many samples the model takes at once.
    """

    folder: Path
    calibration: Dataset | None
    batch: int


def opset_of(model: ModelProto) -> int:
    """Return the opset of ai.onnx that `model` is made for."""
    return int(next(i.version for i in model.opset_import if domain_of(i.domain) == ""))


def build(master: Path, recipe: Recipe, bench: Bench, out: Path) -> None:
    """Write to `out` what `recipe` makes of `master`.

    Args:
        master: A model that passed the door, without external data.
        recipe: What to do.
        bench: What to do it with.
        out: Where the variant's graph goes, in the bench's folder; other files of the
            variant lie beside it.

    Raises:
        BuildError: A step failed; it is named.
    """
    model, changed = onnx.load(master), False
    for step in recipe.steps:
        made = _do(step, model, bench)
        if made is not None:
            model, changed = made, True
    if not changed:
        out.write_bytes(master.read_bytes())  # nothing to do: the master's own bytes
        return
    drop_unused_domains(model)
    _lower_ir(model)
    onnx.save(model, out)


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


def _do(step: Step, model: ModelProto, bench: Bench) -> ModelProto | None:
    """Return the model after `step`, None if there was nothing to do."""
    name = type(step).__struct_config__.tag
    try:
        return _DOERS[type(step)](model, step, bench)
    except BuildError:
        raise
    except Exception as error:
        raise BuildError(
            f"the step {name} failed: {_first(error)}", "Build another profile."
        ) from error


def _raise_opset(model: ModelProto, step: RaiseOpset, _bench: Bench) -> ModelProto | None:
    has = opset_of(model)
    wanted = max(has, step.at_least)
    if step.at_most is not None:
        wanted = min(wanted, step.at_most)
    if has == wanted:
        return None
    try:
        return version_converter.convert_version(model, wanted)
    except Exception as error:
        raise BuildError(
            f"opset {has} could not be converted to {wanted}: {_first(error)}",
            f"Export the master with opset {wanted}.",
        ) from error


def _clean(model: ModelProto, _step: Clean, _bench: Bench) -> ModelProto:
    return clean(model)


def _optimise(model: ModelProto, step: Optimise, bench: Bench) -> ModelProto:
    path = bench.folder / "optimised"
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[step.level]
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return _take(path)


def _prepare(model: ModelProto, _step: Prepare, bench: Bench) -> ModelProto:
    raw, path = bench.folder / "raw", bench.folder / "prepared"
    # given a model in memory, it loses small constants on the way
    onnx.save(model, raw)
    try:
        quant_pre_process(str(raw), str(path), skip_symbolic_shape=True)
        return _take(path)
    finally:
        raw.unlink()


def _halve(model: ModelProto, _step: Half, _bench: Bench) -> ModelProto:
    # inputs and outputs stay as they are: every variant has its master's schema
    halved: ModelProto = convert_float_to_float16(model, keep_io_types=True)
    sort_nodes(halved.graph)
    return halved


def _quantize_weights(model: ModelProto, step: Dynamic, bench: Bench) -> ModelProto:
    path = bench.folder / "dynamic"
    quantize_dynamic(
        model,
        str(path),
        op_types_to_quantize=list(step.operators),
        per_channel=step.per_channel,
        reduce_range=step.reduce_range,
        weight_type=QuantType[step.weights],
    )
    return _take(path)


def _quantize(model: ModelProto, step: Static, bench: Bench) -> ModelProto:
    if bench.calibration is None:
        raise BuildError(
            "int8 needs a calibration set and this version has none",
            "Publish with --calibration FILE.npz (inputs as in the evaluation set).",
        )
    path = bench.folder / "quantized"
    samples = bench.calibration.take(slice(0, step.samples))
    whole = samples.take(slice(0, len(samples) // bench.batch * bench.batch))
    quantize_static(
        model,
        str(path),
        _Reader(whole.batches(bench.batch)),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(step.operators),
        per_channel=step.per_channel,
        reduce_range=step.reduce_range,
        activation_type=QuantType[step.activations],
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={"ActivationSymmetric": step.symmetric, "WeightSymmetric": True},
    )
    return _take(path)


def _block(model: ModelProto, step: FourBits, _bench: Bench) -> ModelProto:
    return quantize_blocks(model, step.block)


def _move_out(model: ModelProto, step: External, bench: Bench) -> ModelProto | None:
    return model if move_out(model, step, bench.folder) else None


_DOERS: dict[type[Step], Callable[[ModelProto, Any, Bench], ModelProto | None]] = {
    RaiseOpset: _raise_opset,
    Clean: _clean,
    Optimise: _optimise,
    Prepare: _prepare,
    Half: _halve,
    Dynamic: _quantize_weights,
    Static: _quantize,
    FourBits: _block,
    External: _move_out,
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """Feeds the calibration set to the quantizer once."""

    def __init__(self, batches: Iterator[Arrays]) -> None:
        self._batches = batches

    def get_next(self) -> Arrays | None:
        return next(self._batches, None)


def _take(path: Path) -> ModelProto:
    """Return the model that a tool wrote, and leave nothing behind."""
    try:
        return onnx.load(path)
    finally:
        path.unlink(missing_ok=True)


def _lower_ir(model: ModelProto) -> None:
    """Write the oldest file format that knows these opsets: old runtimes refuse newer."""
    model.ir_version = helper.find_min_ir_version_for(
        model.opset_import, ignore_unknown=True
    )


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
