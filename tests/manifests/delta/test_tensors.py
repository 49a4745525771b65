import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper
from tests.manifests.delta.models import make_model, make_weights

from modelfleet_manifests.delta.tensors import scan_model
from modelfleet_manifests.delta.wire import WireError


def test_initializers_and_tensors_in_subgraphs_are_found_where_they_lie() -> None:
    outer, inner = make_weights(1), make_weights(2, shape=(30, 7))
    data = make_model({"outer": outer}, inner=inner)
    found = scan_model(memoryview(data)).tensors
    names = [tensor.name for tensor in found]
    assert "outer" in names
    assert sum("const/value" in name for name in names) == 2
    for tensor in found:
        body = data[tensor.offset : tensor.offset + tensor.length]
        assert body == (outer if tensor.name == "outer" else inner).tobytes()
        assert tensor.shape == (outer if tensor.name == "outer" else inner).shape


def test_packed_float_data_is_found() -> None:
    values = np.arange(50, dtype=np.float32)
    model = ModelProto.FromString(make_model({}))
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [50], values))
    data = model.SerializeToString()
    (tensor,) = scan_model(memoryview(data)).tensors
    assert data[tensor.offset : tensor.offset + tensor.length] == values.tobytes()


def test_external_data_is_named_with_its_range() -> None:
    model = ModelProto.FromString(make_model({}))
    tensor = model.graph.initializer.add(name="w", data_type=1, dims=[10, 20])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "4096"), ("length", "800")):
        tensor.external_data.add(key=key, value=value)
    (side,) = scan_model(memoryview(model.SerializeToString())).side_tensors
    assert side.location == "w.bin"
    assert (side.tensor.offset, side.tensor.length, side.tensor.dims) == (
        4096,
        800,
        (10, 20),
    )


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_other_bytes_are_refused_with_one_error(data: bytes) -> None:
    try:
        found = scan_model(memoryview(data))
    except WireError:
        return
    assert all(tensor.offset + tensor.length <= len(data) for tensor in found.tensors)


def test_deep_nesting_is_refused() -> None:
    body = b""
    for _ in range(200):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            size = len(body)
            length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
            body = bytes([tag]) + length + body
    model = b"\x3a" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body
    with pytest.raises(WireError):
        scan_model(memoryview(model))
