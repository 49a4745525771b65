"""The steps that a variant may be made by, each with all that decides its outcome.

A step is data: a profile's file lists it, the recipe's digest covers it together with the
tool that does it, and whoever checks a variant does the same step again.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Opset = Annotated[int, Meta(ge=7, le=1000)]
Integer = Literal["QInt8", "QUInt8"]
Operators = Annotated[list[str], Meta(max_length=32)]
WEIGHTY = ("Conv", "Gemm", "MatMul")
"""Quantizing everything broke transformers, and cost accuracy on convolutional models."""


class _Step(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="step",
):
    """What all steps share."""


class RaiseOpset(_Step, frozen=True, tag="opset"):
    """Bring the opset to `at_least`, and down to `at_most` where that is given."""

    at_least: Opset = 17
    at_most: Opset | None = None


class Clean(_Step, frozen=True, tag="clean"):
    """Leave out what computes nothing: unused nodes and weights, names, notes, shapes."""


class Optimise(_Step, frozen=True, tag="optimise"):
    """Let ONNX Runtime simplify the graph; `all` would bake in this machine's layouts."""

    level: Literal["basic", "extended"] = "basic"


class Prepare(_Step, frozen=True, tag="prepare"):
    """Infer shapes and fold what quantization trips over."""


class Half(_Step, frozen=True, tag="fp16"):
    """Halve weights and arithmetic; inputs and outputs keep their types."""


class Dynamic(_Step, frozen=True, tag="dynamic"):
    """Quantize weights; activations are measured at run time. Never convolutions: slow."""

    operators: Operators = msgspec.field(default_factory=lambda: ["Gemm", "MatMul"])
    weights: Integer = "QInt8"
    per_channel: bool = True
    reduce_range: bool = False


class Static(_Step, frozen=True, tag="qdq"):
    """Quantize weights and activations by calibration data.

    Attributes:
        symmetric: Zero points of activations are 0, as TensorRT wants.
        reduce_range: Weights keep to 7 bits, so that 16-bit sums cannot saturate.
        samples: Calibration samples that are looked at, from the first.
    """

    operators: Operators = msgspec.field(default_factory=lambda: list(WEIGHTY))
    activations: Integer = "QUInt8"
    per_channel: bool = True
    symmetric: bool = False
    reduce_range: bool = False
    samples: Annotated[int, Meta(ge=1, le=10_000)] = 128


class FourBits(_Step, frozen=True, tag="int4"):
    """Weights of matrix products in blocks of four-bit numbers."""

    block: Literal[16, 32, 64, 128] = 32


class External(_Step, frozen=True, tag="external"):
    """Move weights into a file beside the graph, which devices map instead of reading.

    Always the last step, since nothing else looks into that file.

    Attributes:
        at_least: Bytes of the smallest weight that moves; each begins a page of its own.
        total: Bytes that would move; with fewer all stays in one file. Reading a small
            model costs less than another file.
    """

    at_least: Annotated[int, Meta(ge=1, le=1 << 30)] = 16 << 10
    total: Annotated[int, Meta(ge=0, le=1 << 40)] = 32 << 20


Step = (
    RaiseOpset | Clean | Optimise | Prepare | Half | Dynamic | Static | FourBits | External
)
Precision = Literal["fp32", "fp16", "int8", "int4"]


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to turn a master into one candidate for a profile.

    Attributes:
        name: Unique in its profile; part of the variant's name.
        precision: Of the weights; decides how far off golden outputs may be.
        steps: Done one after the other.
        unless: It is not tried for models with one of these operators.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    precision: Precision
    steps: Annotated[list[Step], Meta(min_length=1, max_length=16)]
    unless: Operators = []

    @property
    def calibrated(self) -> bool:
        """It needs to see inputs of the kind that the model will see."""
        return any(isinstance(step, Static) for step in self.steps)
