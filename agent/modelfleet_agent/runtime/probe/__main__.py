"""The probing child: `python -m modelfleet_agent.runtime.probe`.

What a build of ONNX Runtime lists is not what works: TensorRT and CUDA are listed without
a driver. So each provider loads a model of one `Identity` node, written here by hand since
devices carry no `onnx`.
"""

import os
import sys

import msgspec
import onnxruntime

from modelfleet_agent.facts import RuntimeFacts

LOWEST, HIGHEST = 7, 64
IR_VERSION = 8
CPU = "CPUExecutionProvider"
REMOTE = frozenset({"AzureExecutionProvider"})  # calls a service, runs nothing here
FLOAT = 1
_VARINT, _BYTES = 0, 2
_SEVEN = 0x7F


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | _VARINT) + _varint(value)


def _nested(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > _SEVEN:
        out.append(value & _SEVEN | 0x80)
        value >>= 7
    return bytes([*out, value])


def identity(opset: int) -> bytes:
    """Return an ONNX model `y = x`, one float, as protobuf."""
    shape = _nested(2, _nested(1, _number(1, 1)))
    kind = _nested(2, _nested(1, _number(1, FLOAT) + shape))
    node = _nested(1, b"x") + _nested(2, b"y") + _nested(4, b"Identity")
    graph = (
        _nested(1, node)
        + _nested(2, b"probe")
        + _nested(11, _nested(1, b"x") + kind)
        + _nested(12, _nested(1, b"y") + kind)
    )
    return _number(1, IR_VERSION) + _nested(7, graph) + _nested(8, _number(2, opset))


def loads(opset: int, provider: str) -> bool:
    """Say whether a model of `opset` loads on `provider` itself, not on its fallback."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            identity(opset), options, providers=[provider]
        )
    except Exception:  # noqa: BLE001 - whatever it raises, it does not load
        return False
    return provider in session.get_providers()


def probe() -> RuntimeFacts:
    """Try everything that this build offers."""
    available = [p for p in onnxruntime.get_available_providers() if p not in REMOTE]
    opset = LOWEST
    while opset < HIGHEST and loads(opset + 1, CPU):
        opset += 1
    return RuntimeFacts(
        runtime=f"onnxruntime {onnxruntime.__version__}",
        providers=[provider for provider in available if loads(LOWEST, provider)],
        opset=opset,
    )


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(probe()))
    sys.stdout.flush()
    os._exit(0)  # a driver that crashes while it unloads says nothing about loading
