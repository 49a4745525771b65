"""The probing child: `python -m modelfleet_agent.runtime.probe`.

What a build of ONNX Runtime lists is not what works: TensorRT and CUDA are listed without
a driver. So each provider loads a model of one `Identity` node. And what a processor says
of itself is not how it sums bytes: a model of one `MatMulInteger` node shows that.
"""

import ctypes
import os
import sys

import msgspec
import numpy as np
import onnxruntime

from modelfleet_agent.facts import RuntimeFacts
from modelfleet_agent.runtime.probe import Known
from modelfleet_agent.runtime.probe.models import (
    DEPTH,
    EXACT,
    LARGEST_U8,
    make_identity,
    make_saturation,
)

LOWEST, HIGHEST = 7, 64
CPU = "CPUExecutionProvider"
REMOTE = frozenset({"AzureExecutionProvider"})  # calls a service, runs nothing here
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


def loads(opset: int, provider: str) -> bool:
    """Say whether a model of `opset` loads on `provider` itself, not on its fallback."""
    try:
        session = onnxruntime.InferenceSession(
            make_identity(opset), _options(), providers=[provider]
        )
    except Exception:  # noqa: BLE001 - whatever it raises, it does not load
        return False
    return provider in session.get_providers()


def saturates() -> bool | None:
    """Say whether sums of products of bytes are clipped here; None where none are made."""
    largest = np.full((1, DEPTH), LARGEST_U8, dtype=np.uint8)
    try:
        session = onnxruntime.InferenceSession(
            make_saturation(), _options(), providers=[CPU]
        )
        (answer,) = session.run(["y"], {"a": largest})
    except Exception:  # noqa: BLE001 - a runtime without this operator
        return None
    return int(answer[0, 0]) != EXACT


def find_compute() -> str:
    """Return the compute capability of the first GPU, by its driver; "" without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    )
    return "" if failed else f"{major.value}.{minor.value}"


def probe(known: Known) -> RuntimeFacts:
    """Try everything that this build offers."""
    available = [p for p in onnxruntime.get_available_providers() if p not in REMOTE]
    runtime = f"onnxruntime {onnxruntime.__version__}"
    is_known = known.runtime == runtime and known.saturates is not None
    opset = LOWEST
    while opset < HIGHEST and loads(opset + 1, CPU):
        opset += 1
    return RuntimeFacts(
        runtime=runtime,
        providers=[provider for provider in available if loads(LOWEST, provider)],
        opset=opset,
        saturates=known.saturates if is_known else saturates(),
        compute=find_compute(),
    )


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return options


if __name__ == "__main__":
    told = msgspec.json.decode(sys.stdin.buffer.read() or b"{}", type=Known)
    sys.stdout.buffer.write(msgspec.json.encode(probe(told)))
    sys.stdout.flush()
    os._exit(0)  # a driver that crashes while it unloads says nothing about loading
