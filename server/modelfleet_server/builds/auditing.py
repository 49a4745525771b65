"""Audits a variant whose bytes are not those that are made here, as another machine's are.

Calibration runs the model, and processors round differently: the last digits of scales and
with them some quantized numbers differ. So the graph must be the very graph that the recipe
makes of the master here, and every number must be what the master's rounds to: a quantized
weight within 0.51 step, which leaves nobody a choice of rounding, a scale of activations
within a hundredth of the one found here, a zero point within one. Only in a limited child.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from modelfleet_server.builds.graph import walk_nodes

STEP = 0.51
"""Of a step of quantization: half a step is rounding, the rest is for the last digit."""
SCALE = 0.01
ROUNDING = 2.0**-20
"""Relative difference of single-precision numbers that were folded elsewhere."""
QUANTIZED, SCALES, ZEROS = "_quantized", "_scale", "_zero_point"
"""How ONNX Runtime names what it makes of the tensor of that name."""
Array = NDArray[np.generic]


class Grounds(NamedTuple):
    """What a variant is judged by.

    Attributes:
        built: What the recipe makes of the master here.
        reference: The same before anything is quantized or halved.
    """

    built: ModelProto
    reference: ModelProto


class Masters(NamedTuple):
    """The master's weights by name, and along which axis a quantized one has its scales."""

    numbers: Mapping[str, Array]
    axes: Mapping[str, int]


def audit(variant: ModelProto, grounds: Grounds) -> list[str]:
    """Return what speaks against a variant, in words; nothing if it can be vouched for."""
    if _shape(variant) != _shape(grounds.built):
        return ["its graph is not the one that the recipe makes of the master"]
    theirs, ours = _numbers(variant), _numbers(grounds.built)
    masters = Masters(_numbers(grounds.reference), dict(_axes(variant)))
    return [
        f"{name}: {why}"
        for name in sorted(theirs)
        if not _same(theirs[name], ours[name])
        and (why := _judge(name, theirs, ours[name], masters))
    ]


def _judge(name: str, theirs: Mapping[str, Array], ours: Array, masters: Masters) -> str:
    found = theirs[name]
    if found.dtype.kind in "iu" and name.endswith(ZEROS):
        near = np.abs(found.astype(np.int64) - ours.astype(np.int64)) <= 1
        return "" if near.all() else "the zero point is another one"
    if found.dtype.kind in "iu" and name.endswith(QUANTIZED):
        return _judge_weights(name, theirs, masters)
    if found.dtype == np.float16 and name in masters.numbers:
        return _judge_halved(found, masters.numbers[name])
    if found.dtype.kind != "f":
        return "it is another number, and not one that rounding explains"
    bound = SCALE if name.endswith(SCALES) else ROUNDING
    return "" if _near(found, ours, bound) else "it is further off than rounding explains"


def _judge_weights(name: str, theirs: Mapping[str, Array], masters: Masters) -> str:
    base = name.removesuffix(QUANTIZED)
    # weights have the scale of their name, biases that of their quantized name
    stem = name if f"{name}{SCALES}" in theirs else base
    scale, zero = theirs.get(f"{stem}{SCALES}"), theirs.get(f"{stem}{ZEROS}")
    master = masters.numbers.get(base)
    if scale is None or master is None or master.shape != theirs[name].shape:
        return "it cannot be compared with a weight of the master"
    axis = masters.axes.get(name, master.ndim - 1)
    steps = _spread(scale, master.shape, axis)
    zeros = _spread(np.zeros(1) if zero is None else zero, master.shape, axis)
    if steps is None or zeros is None or not (steps > 0).all():
        return "its scales do not fit it"
    off = np.abs(
        (theirs[name].astype(np.float64) - zeros) * steps - master.astype(np.float64)
    )
    wrong = int((off > STEP * steps).sum())
    return f"{wrong} numbers are more than {STEP} step off the master's" if wrong else ""


def _spread(values: Array, shape: tuple[int, ...], axis: int) -> NDArray[np.float64] | None:
    """Return one value per element: the same for all, or one per slice of an axis."""
    if values.size == 1:
        return np.full(shape, float(values.reshape(-1)[0]))
    if not -len(shape) <= axis < len(shape) or values.size != shape[axis]:
        return None
    form = [1] * len(shape)
    form[axis] = values.size
    return np.broadcast_to(values.astype(np.float64).reshape(form), shape)


def _judge_halved(found: Array, master: Array) -> str:
    if master.shape != found.shape:
        return "it cannot be compared with a weight of the master"
    step = np.spacing(np.abs(found)).astype(np.float64)
    off = np.abs(found.astype(np.float64) - master.astype(np.float64))
    return "" if (off <= STEP * step).all() else "it is not the master's number, halved"


def _near(found: Array, ours: Array, bound: float) -> bool:
    theirs, mine = found.astype(np.float64), ours.astype(np.float64)
    return bool((np.abs(theirs - mine) <= bound * np.abs(mine)).all())


def _same(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def _shape(model: ModelProto) -> bytes:
    """Return all of a model but the numbers of its weights, and words about it."""
    bare = ModelProto()
    bare.opset_import.extend(sorted(model.opset_import, key=lambda one: one.domain))
    bare.functions.extend(model.functions)
    bare.graph.CopyFrom(model.graph)
    bare.graph.doc_string = ""
    for node in walk_nodes(bare.graph.node):
        node.doc_string = ""
    kept = [_outline(one) for one in sorted(bare.graph.initializer, key=lambda it: it.name)]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(kept)
    data: bytes = bare.SerializeToString(deterministic=True)
    return data


def _outline(tensor: TensorProto) -> TensorProto:
    return TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)


def _axes(model: ModelProto) -> Iterator[tuple[str, int]]:
    """Yield the axis of each tensor that is turned back into floats; 1 is the default."""
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            yield node.input[0], next((a.i for a in node.attribute if a.name == "axis"), 1)


def _numbers(model: ModelProto) -> dict[str, Array]:
    return dict(_arrays(model))


def _arrays(model: ModelProto) -> Iterator[tuple[str, Array]]:
    for tensor in model.graph.initializer:
        yield tensor.name, numpy_helper.to_array(tensor)
