"""Tensors survive the wire, as JSON and as bytes, in every datatype."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfleet_agent.runtime.answers import classes_of
from modelfleet_agent.runtime.tensors import (
    DATATYPES,
    Array,
    InTensor,
    TensorError,
    TensorSpec,
    decode_inputs,
    encode_output,
)

SHAPES = st.lists(st.integers(0, 3), min_size=1, max_size=3)


def elements(datatype: str) -> st.SearchStrategy[Any]:
    dtype = DATATYPES[datatype]
    if dtype.kind == "O":
        return st.text(max_size=5)
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        return st.floats(width=dtype.itemsize * 8, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
    bounds = np.iinfo(dtype)
    return st.integers(int(bounds.min), int(bounds.max))


@st.composite
def tensors(draw: st.DrawFn) -> tuple[TensorSpec, Array]:
    datatype = draw(st.sampled_from(sorted(DATATYPES)))
    shape = draw(SHAPES)
    size = int(np.prod(shape))
    values = draw(st.lists(elements(datatype), min_size=size, max_size=size))
    spec = TensorSpec("x", datatype, (-1,) * len(shape))
    return spec, np.array(values, dtype=DATATYPES[datatype]).reshape(shape)


@given(tensor=tensors(), binary=st.booleans(), padding=st.integers(0, 7))
def test_what_is_encoded_is_decoded(
    tensor: tuple[TensorSpec, Array], binary: bool, padding: int
) -> None:
    spec, array = tensor
    out, data = encode_output(spec, array, binary=binary)
    sent = InTensor(out.name, out.shape, out.datatype, dict(out.parameters), out.data)
    tail = memoryview(b"-" * padding + data)[padding:]
    fed = decode_inputs([sent], tail, [spec])["x"]
    assert fed.dtype == array.dtype
    assert fed.flags.aligned
    assert np.array_equal(fed, array)


@given(tensor=tensors(), cut=st.integers(1, 8))
def test_bytes_that_are_missing_or_left_over_are_refused(
    tensor: tuple[TensorSpec, Array], cut: int
) -> None:
    spec, array = tensor
    out, data = encode_output(spec, array, binary=True)
    sent = InTensor(out.name, out.shape, out.datatype, dict(out.parameters))
    with pytest.raises(TensorError):
        decode_inputs([sent], memoryview(data + b"-" * cut), [spec])
    if len(data) >= cut:
        with pytest.raises(TensorError):
            decode_inputs([sent], memoryview(data[:-cut]), [spec])
        sent.parameters["binary_data_size"] = len(data) - cut
        with pytest.raises(TensorError):
            decode_inputs([sent], memoryview(data[:-cut]), [spec])


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT8", [128]),
        ("UINT8", [-1]),
        ("INT32", [1.5]),
        ("FP32", [None]),
        ("FP32", [True]),
        ("BOOL", [1]),
        ("BYTES", [1]),
        ("INT64", [1 << 70]),
        ("FP32", {"a": 1}),
    ],
)
def test_a_value_that_would_change_on_the_way_is_refused(datatype: str, data: Any) -> None:
    sent = InTensor("x", [1], datatype, {}, data)
    with pytest.raises(TensorError, match="'x'"):
        decode_inputs([sent], memoryview(b""), [TensorSpec("x", datatype, (1,))])


@pytest.mark.parametrize(
    ("output", "classes"),
    [
        (np.array([[0.1, 0.9], [0.8, 0.2]]), (1, 0)),
        (np.array([0.1, 0.7, 0.2]), (1,)),
        (np.array([4, 7], np.int64), (4, 7)),
        (np.zeros((300, 2)), None),
        (np.zeros((2, 2, 2)), None),
        (np.zeros((0, 3)), None),
        (np.array(["a"], object), None),
    ],
)
def test_the_class_of_an_answer(output: Array, classes: tuple[int, ...] | None) -> None:
    assert classes_of(output) == classes
