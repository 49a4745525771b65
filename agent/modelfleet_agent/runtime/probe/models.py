"""The models that the probe runs, written by hand since devices carry no `onnx`."""

IR_VERSION = 8
FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6
DEPTH = 64
LARGEST_U8, LARGEST_S8 = 255, 127
EXACT = DEPTH * LARGEST_U8 * LARGEST_S8
_VARINT, _BYTES = 0, 2
_SEVEN = 0x7F


def make_identity(opset: int) -> bytes:
    """Return an ONNX model `y = x`, one float, as protobuf."""
    node = _nested(1, b"x") + _nested(2, b"y") + _nested(4, b"Identity")
    graph = (
        _nested(1, node)
        + _nested(2, b"probe")
        + _nested(11, _tensor_info(b"x", FLOAT, (1,)))
        + _nested(12, _tensor_info(b"y", FLOAT, (1,)))
    )
    return _number(1, IR_VERSION) + _nested(7, graph) + _nested(8, _number(2, opset))


def make_saturation() -> bytes:
    """Return a model that sums 64 products of bytes: `EXACT` for `a` of all 255.

    Where a processor adds pairs of products in 16 bits, as AVX2 without VNNI does, each
    pair is clipped at 32,767 and the sum is about half. The server's builder scores
    variants with the same bytes (`builds.probe`).
    """
    node = _nested(1, b"a") + _nested(1, b"b") + _nested(2, b"y")
    weights = _number(1, DEPTH) + _number(1, 1) + _number(2, INT8) + _nested(8, b"b")
    weights += _nested(9, bytes([LARGEST_S8] * DEPTH))
    graph = (
        _nested(1, node + _nested(4, b"MatMulInteger"))
        + _nested(2, b"probe")
        + _nested(5, weights)
        + _nested(11, _tensor_info(b"a", UINT8, (1, DEPTH)))
        + _nested(12, _tensor_info(b"y", INT32, (1, 1)))
    )
    # old enough for every runtime in the field
    head = _number(1, 7) + _nested(2, b"")
    return head + _nested(7, graph) + _nested(8, _nested(1, b"") + _number(2, 13))


def _tensor_info(name: bytes, kind: int, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_nested(1, _number(1, size)) for size in shape)
    tensor = _number(1, kind) + _nested(2, sizes)
    return _nested(1, name) + _nested(2, _nested(1, tensor))


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
