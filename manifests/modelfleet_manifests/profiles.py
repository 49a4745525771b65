"""Classes of hardware: which profiles a device fits, and which variant suits it best.

A profile is a row of `PROFILES`; a device fits several, from the most specific to
`generic`. Detection rules follow what was measured on real machines: the Jetson release
file first, then the instruction set, then the CPU's features.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

import msgspec

from modelfleet_manifests.errors import FormatError

FactValue = str | int | bool | list[str]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is; reported by the agent, or declared by its operator.

    Attributes:
        arch: Machine name of the kernel: `x86_64`, `aarch64`, `armv7l`.
        cpu: CPU features as the kernel names them, such as `avx2` or `asimddp`.
        soc: Board or SoC name from the device tree, "" where there is none.
        jetson: Jetson Linux release such as `R36.2`, "" elsewhere.
        memory_mb: Main memory, MiB.
        disk_free_mb: Free space in the agent's directory, MiB.
        providers: ONNX Runtime execution providers that the runtime offers.
        runtime: `onnxruntime` and its version.
        opset: The highest opset that the runtime loads.
        agent: The agent's version.
        declared: The facts were declared, not probed: no evidence of latency.
    """

    arch: str = "unknown"
    cpu: list[str] = []
    soc: str = ""
    jetson: str = ""
    memory_mb: int = 0
    disk_free_mb: int = 0
    providers: list[str] = []
    runtime: str = ""
    opset: int = 17
    agent: str = ""
    declared: bool = False


def read_facts(values: Mapping[str, FactValue]) -> Facts:
    """Return the facts in a report; what this version does not know is passed over.

    Raises:
        FormatError: A fact that is known has another type.
    """
    try:
        return msgspec.convert(dict(values), Facts)
    except msgspec.ValidationError as error:
        raise FormatError("facts", str(error)) from None


def write_facts(facts: Facts) -> dict[str, FactValue]:
    """Return the facts as a report carries them."""
    return dict(msgspec.to_builtins(facts))


def _is_orin(facts: Facts) -> bool:
    return facts.jetson.startswith(("R35", "R36")) and "orin" in facts.soc.lower()


def _has_vnni(facts: Facts) -> bool:
    return facts.arch == "x86_64" and not {"avx512_vnni", "avx_vnni"}.isdisjoint(facts.cpu)


# Most specific first: a device takes the first variant of the first profile that fits.
PROFILES: dict[str, Callable[[Facts], bool]] = {
    "jetson-orin-trt": _is_orin,
    "jetson-nano-cuda": lambda facts: facts.jetson.startswith("R32"),
    "arm64-dotprod": lambda facts: facts.arch == "aarch64" and "asimddp" in facts.cpu,
    "arm64": lambda facts: facts.arch == "aarch64",
    "armv7": lambda facts: facts.arch == "armv7l",
    "x86-vnni": _has_vnni,
    "x86-avx2": lambda facts: facts.arch == "x86_64" and "avx2" in facts.cpu,
    "generic": lambda _facts: True,
}

# Artefacts for microcontrollers are exported; no agent ever fits this profile.
EXPORT_ONLY = "microcontroller"


class Fitting(Protocol):
    """What the choice needs to know of a variant."""

    @property
    def profile(self) -> str:
        """The profile that it was made for."""

    @property
    def opset(self) -> int:
        """The opset that the runtime must load."""

    @property
    def providers(self) -> list[str]:
        """Execution providers that must be there; none for the CPU."""


V = TypeVar("V", bound=Fitting)


def matching_profiles(facts: Facts) -> list[str]:
    """Return the profiles that `facts` fit, most specific first; never empty."""
    return [name for name, fits in PROFILES.items() if fits(facts)]


def best_variant(facts: Facts, variants: Iterable[V]) -> V | None:
    """Return the variant that suits the device best, or None where none does."""
    usable = {
        variant.profile: variant
        for variant in reversed(list(variants))
        if variant.opset <= facts.opset and set(variant.providers) <= set(facts.providers)
    }
    return next((usable[name] for name in matching_profiles(facts) if name in usable), None)
