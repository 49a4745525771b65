"""What a device is, as its agent reports it."""

from collections.abc import Mapping

import msgspec

from modelfleet_manifests.errors import FormatError

FactValue = str | int | bool | list[str]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a device is; reported by the agent, or declared by its operator.

    Attributes:
        arch: Machine name of the kernel: `x86_64`, `aarch64`, `armv7l`.
        cpu: CPU features as the kernel names them, such as `avx2` or `asimddp`; and
            `u8s8_saturates` where a probe found that products of bytes are clipped.
        soc: Board or SoC name from the device tree, "" where there is none.
        jetson: Jetson Linux release such as `R36.2`, "" elsewhere.
        memory_mb: Main memory, MiB.
        disk_free_mb: Free space in the agent's directory, MiB.
        providers: ONNX Runtime execution providers that the runtime offers.
        runtime: `onnxruntime` and its version.
        opset: The highest opset that the runtime loads.
        libraries: Of accelerators, with their versions: `tensorrt 8.6.2`, `cuda 12.2.140`.
        compute: Compute capability of the GPU such as `8.7`, "" where there is none.
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
    libraries: list[str] = []
    compute: str = ""
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
