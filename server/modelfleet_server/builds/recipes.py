"""Which recipe makes the variant of which profile: a fixed table for now; pure.

What the rows rest on was measured: int8 on small models is often slower than fp32, S8S8 is
slow on x86 and right on ARM, U8S8 saturates under AVX2 unless weights keep to 7 bits, and
a step that ended without an error may still have made a model that does not load. So a
plan names a wanted recipe and one to fall back to, and every variant is loaded, run and
scored before it counts.
"""

from dataclasses import dataclass
from typing import Literal

from modelfleet_manifests.canonical import canonical
from modelfleet_manifests.digests import sha256
from modelfleet_server.builds.errors import UnknownProfileError

OPSET = 17
"""Masters below are raised to it first: per-channel QDQ below 13 never loads."""
ACCURACY_BUDGET = 0.02
"""How much less accurate than its master a variant may be, as a share of all answers."""
FASTER = 0.8
"""A variant that must be faster takes at most this share of the other's time: less is not
worth another precision, and two builds of one model should not differ by chance."""

Precision = Literal["fp32", "fp16", "int8"]
Integer = Literal["QInt8", "QUInt8"]
Step = dict[str, str | int | bool | list[str]]
Tools = dict[str, str]
"""Versions by distribution name: onnx, onnxruntime, numpy."""


@dataclass(frozen=True)
class Recipe:
    """How to turn a master into a variant.

    Attributes:
        precision: Of the weights; int8 is static QDQ, symmetric per channel.
        opset: What the opset is raised to, or lowered to where `ceiling`.
        ceiling: The runtime of this profile loads no opset above `opset`.
        activations: int8: their type.
        reduce_range: int8: keep weights to 7 bits, so that 16-bit sums cannot saturate.
    """

    precision: Precision
    opset: int = OPSET
    ceiling: bool = False
    activations: Integer = "QInt8"
    reduce_range: bool = False

    @property
    def calibrated(self) -> bool:
        """It needs to see images of the kind that the model will see."""
        return self.precision == "int8"

    def steps(self, tools: Tools) -> list[Step]:
        """Return the steps with all that decides their outcome."""
        onnx, runtime = f"onnx {tools['onnx']}", f"onnxruntime {tools['onnxruntime']}"
        steps: list[Step] = [
            {"step": "begin", "tool": f"modelfleet recipes {REVISION}"},
            {
                "step": "opset",
                "tool": onnx,
                "opset": self.opset,
                "ceiling": self.ceiling,
            },
        ]
        if self.precision == "fp16":
            steps.append({"step": "fp16", "tool": runtime, "keep_io_types": True})
        if self.precision == "int8":
            steps.append({"step": "prepare", "tool": runtime, "symbolic_shapes": False})
            steps.append(
                {
                    "step": "quantize",
                    "tool": runtime,
                    "format": "QDQ",
                    "operators": list(QUANTIZED),
                    "per_channel": True,
                    "weights": "QInt8",
                    "activations": self.activations,
                    "reduce_range": self.reduce_range,
                    "calibration": "MinMax",
                    "samples": SAMPLES,
                }
            )
        return steps

    def digest(self, tools: Tools) -> str:
        """Name the recipe: the same steps by the same tools."""
        return sha256(canonical(list(self.steps(tools))))


REVISION = 1
"""Raised with every change of `steps` that changes the bytes it makes."""
QUANTIZED = ("Conv", "Gemm", "MatMul")
"""Quantizing everything broke transformers, and cost accuracy on convolutional models."""
SAMPLES = 128
"""Calibration samples that are looked at, from the first."""


@dataclass(frozen=True)
class Plan:
    """What to try for a profile.

    Attributes:
        wanted: Tried first; counts only within the accuracy budget.
        otherwise: What is built where the wanted one does not count.
        faster: The wanted one must also be measured faster than the other, here.
    """

    wanted: Recipe
    otherwise: Recipe
    faster: bool = False

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes to build, each once."""
        both = (self.otherwise, self.wanted)
        return both[:1] if self.wanted == self.otherwise else both


FP32 = Recipe("fp32")
FP16 = Recipe("fp16")
ARM = Recipe("int8", activations="QInt8")
VNNI = Recipe("int8", activations="QUInt8")
AVX2 = Recipe("int8", activations="QUInt8", reduce_range=True)

PLANS: dict[str, Plan] = {
    "jetson-orin-trt": Plan(FP16, FP32),
    "jetson-nano-cuda": Plan(
        Recipe("fp16", opset=15, ceiling=True), Recipe("fp32", opset=15, ceiling=True)
    ),
    "arm64-dotprod": Plan(ARM, FP32),
    "arm64": Plan(ARM, FP32),
    "armv7": Plan(FP32, FP32),
    "x86-vnni": Plan(VNNI, FP32, faster=True),
    "x86-avx2": Plan(AVX2, FP32, faster=True),
    "generic": Plan(FP32, FP32),
}
DEFAULT_PROFILES = (
    "jetson-orin-trt",
    "arm64-dotprod",
    "arm64",
    "x86-vnni",
    "x86-avx2",
    "generic",
)
"""What a version is built for where nobody says otherwise."""


def plan_for(profile: str) -> Plan:
    """Return the plan for `profile`.

    Raises:
        UnknownProfileError: There is none.
    """
    try:
        return PLANS[profile]
    except KeyError:
        raise UnknownProfileError(
            f"there is no recipe for the profile {profile!r}",
            f"Known are {', '.join(PLANS)}.",
        ) from None


def toolchain_digest(tools: Tools) -> str:
    """Name the tools: all versions that a variant's bytes may depend on."""
    return sha256(canonical(dict(tools)))
