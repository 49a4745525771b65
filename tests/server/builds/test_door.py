"""What the door lets in, and each thing that it refuses, with what to do."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import set_external_data
from tests.server.builds.models import (
    dense,
    digits,
    save,
    weight_bytes,
    with_external_weights,
)

from modelfleet_manifests.release import Tensor
from modelfleet_server.builds import door
from modelfleet_server.builds.errors import (
    ExternalDataError,
    ModelError,
    ModelSizeError,
    NotOnnxError,
    OperatorError,
    OpsetError,
    SchemaError,
)


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Check that a file is refused as `kind`, names itself, and says what to do."""

    def check(path: Path, kind: type[ModelError]) -> str:
        with pytest.raises(ModelError) as caught:
            door.check(path)
        assert type(caught.value) is kind
        assert path.name in caught.value.what
        assert caught.value.hint
        return caught.value.what

    return check


Refused = Callable[[Path, type[ModelError]], str]


def test_the_demo_model_comes_in_with_its_schema() -> None:
    facts = door.check(digits())
    assert facts.schema.inputs == [Tensor(name="x", datatype="FP32", shape=[-1, 1, 8, 8])]
    assert facts.schema.outputs == [Tensor(name="logits", datatype="FP32", shape=[-1, 10])]
    assert (facts.opset, facts.external) == (17, [])
    assert facts.operators == ["Conv", "Flatten", "Gemm", "MaxPool", "Relu"]
    assert facts.parameters == 81402


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is text", b"\x00" * 1000, bytes(range(256)) * 40, b"PK\x03\x04zip"],
    ids=["empty", "text", "zeros", "bytes", "zip"],
)
def test_what_is_not_onnx_is_refused(
    tmp_path: Path, refused: Refused, content: bytes
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "is not an ONNX file" in refused(path, NotOnnxError)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_cut_off_model_is_refused(tmp_path: Path, refused: Refused, share: float) -> None:
    data = digits().read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    refused(path, NotOnnxError)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path, refused: Refused) -> None:
    refused(tmp_path / "nowhere.onnx", NotOnnxError)
    refused(tmp_path, NotOnnxError)


def test_missing_external_data_is_refused(tmp_path: Path, refused: Refused) -> None:
    path = with_external_weights(tmp_path, "weights.bin")
    assert "not beside it" in refused(path, ExternalDataError)


@pytest.mark.parametrize(
    "location", ["../weights.bin", "a/../../weights.bin", "/etc/passwd", "", "..\\w.bin"]
)
def test_external_data_that_climbs_out_is_refused(
    tmp_path: Path, refused: Refused, location: str
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "weights.bin").write_bytes(weight_bytes())
    path = with_external_weights(inner, location)
    assert "outside of its folder" in refused(path, ExternalDataError)


def test_external_data_behind_a_symbolic_link_is_refused(
    tmp_path: Path, refused: Refused
) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.mkdir()
    outer.mkdir()
    (outer / "weights.bin").write_bytes(weight_bytes())
    (inner / "weights.bin").symlink_to(outer / "weights.bin")
    (inner / "folder").symlink_to(outer)
    for location in ("weights.bin", "folder/weights.bin"):
        path = with_external_weights(inner, location)
        assert "symbolic link" in refused(path, ExternalDataError)


def test_external_data_that_is_no_file_is_refused(tmp_path: Path, refused: Refused) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(with_external_weights(tmp_path, "pipe"), ExternalDataError)
    refused(with_external_weights(tmp_path, "."), ExternalDataError)


def test_external_data_that_is_too_short_is_refused(
    tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "weights.bin").write_bytes(weight_bytes()[:-1])
    path = with_external_weights(tmp_path, "weights.bin")
    assert "needs 48 bytes" in refused(path, ExternalDataError)
    refused(with_external_weights(tmp_path, "weights.bin", length=4), ExternalDataError)


def test_external_data_hidden_in_an_attribute_is_found(
    tmp_path: Path, refused: Refused
) -> None:
    constant = helper.make_node(
        "Constant",
        [],
        ["c"],
        value=helper.make_tensor(
            "hidden", TensorProto.FLOAT, [2], np.ones(2, np.float32).tobytes(), raw=True
        ),
    )
    set_external_data(constant.attribute[0].t, "../hidden.bin")
    constant.attribute[0].t.ClearField("raw_data")
    path = save(
        dense(constant, helper.make_node("Relu", ["x"], ["h"])), tmp_path / "model.onnx"
    )
    assert "hidden.bin" in refused(path, ExternalDataError)


def test_external_data_beside_the_model_comes_in(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(weight_bytes())
    facts = door.check(with_external_weights(tmp_path, "weights.bin"))
    assert facts.external == ["weights.bin"]


@pytest.mark.parametrize("opset", [6, 99])
def test_an_opset_that_no_runtime_promises_is_refused(
    tmp_path: Path, refused: Refused, opset: int
) -> None:
    path = save(dense(opset=opset), tmp_path / "model.onnx")
    assert f"opset {opset}" in refused(path, OpsetError)


def test_a_foreign_operator_domain_is_refused(tmp_path: Path, refused: Refused) -> None:
    node = helper.make_node("Secret", ["x"], ["h"], domain="my.company")
    path = save(dense(node, extra_imports=(("my.company", 1),)), tmp_path / "model.onnx")
    assert "my.company" in refused(path, OpsetError)


def test_a_domain_that_is_used_and_not_imported_is_refused(
    tmp_path: Path, refused: Refused
) -> None:
    node = helper.make_node("FusedGemm", ["x", "w"], ["h"], domain="com.microsoft")
    refused(save(dense(node), tmp_path / "model.onnx"), OpsetError)


def test_a_future_file_format_is_refused(tmp_path: Path, refused: Refused) -> None:
    model = dense()
    model.ir_version = 99
    refused(save(model, tmp_path / "model.onnx"), OpsetError)


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_an_unknown_operator_is_refused(
    tmp_path: Path, refused: Refused, domain: str
) -> None:
    node = helper.make_node("Frobnicate", ["x"], ["h"], domain=domain)
    path = save(dense(node, extra_imports=(("com.microsoft", 1),)), tmp_path / "model.onnx")
    assert "Frobnicate" in refused(path, OperatorError)


def test_an_operator_of_onnx_runtime_comes_in(tmp_path: Path) -> None:
    node = helper.make_node("Gelu", ["x"], ["h"], domain="com.microsoft")
    path = save(dense(node, extra_imports=(("com.microsoft", 1),)), tmp_path / "model.onnx")
    assert "com.microsoft:Gelu" in door.check(path).operators


def test_functions_that_call_each_other_without_end_are_refused(
    tmp_path: Path, refused: Refused
) -> None:
    model = dense(
        helper.make_node("F", ["x"], ["h"], domain="own"), extra_imports=(("own", 1),)
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for name, calls in (("F", "G"), ("G", "F")):
        body = [helper.make_node(calls, ["a"], ["b"], domain="own")]
        model.functions.append(
            helper.make_function("own", name, ["a"], ["b"], body, imports)
        )
    with pytest.raises(NotOnnxError, match="calls itself"):
        door.check(save(model, tmp_path / "model.onnx"))


def test_functions_that_grow_beyond_all_bounds_are_refused(tmp_path: Path) -> None:
    """Ten calls each, six levels: a million nodes in 2 KB."""
    model = dense(
        helper.make_node("F0", ["x"], ["h"], domain="own"), extra_imports=(("own", 1),)
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for level in range(6):
        kind = (f"F{level + 1}", "own") if level < 5 else ("Relu", "")
        names = ["a", *(f"t{n}" for n in range(9)), "b"]
        body = [
            helper.make_node(kind[0], [names[n]], [names[n + 1]], domain=kind[1])
            for n in range(10)
        ]
        model.functions.append(
            helper.make_function("own", f"F{level}", ["a"], ["b"], body, imports)
        )
    with pytest.raises(ModelSizeError, match="50000 nodes"):
        door.check(save(model, tmp_path / "model.onnx"))


def test_a_tensor_that_declares_more_than_it_holds_is_refused(
    tmp_path: Path, refused: Refused
) -> None:
    model = dense()
    model.graph.initializer[0].dims[0] = 1 << 40
    refused(save(model, tmp_path / "model.onnx"), ModelSizeError)
    model.graph.initializer[0].dims[0] = 5
    refused(save(model, tmp_path / "model.onnx"), NotOnnxError)


def test_a_cycle_is_refused(tmp_path: Path, refused: Refused) -> None:
    model = dense(
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["h"]),
    )
    refused(save(model, tmp_path / "model.onnx"), NotOnnxError)


def test_types_that_do_not_fit_are_refused(tmp_path: Path, refused: Refused) -> None:
    node = helper.make_node("Cast", ["x"], ["h"], to=TensorProto.INT64)
    refused(save(dense(node), tmp_path / "model.onnx"), NotOnnxError)


def test_a_model_without_inputs_is_refused(tmp_path: Path, refused: Refused) -> None:
    constant = helper.make_node("ConstantOfShape", ["s"], ["h"])
    model = dense(constant)
    del model.graph.input[:]
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [1, 4])
    model.graph.initializer.append(shape)
    refused(save(model, tmp_path / "model.onnx"), SchemaError)


def test_a_type_that_devices_cannot_exchange_is_refused(
    tmp_path: Path, refused: Refused
) -> None:
    model = dense(helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    assert "'x'" in refused(save(model, tmp_path / "model.onnx"), SchemaError)


def test_a_damaged_model_is_refused_or_still_a_model(tmp_path: Path) -> None:
    """Whatever byte is hit, the door answers with facts or with one of its own errors."""
    data = save(dense(), tmp_path / "good.onnx").read_bytes()
    path = tmp_path / "damaged.onnx"
    outcomes = set()
    for position in range(len(data)):
        path.write_bytes(
            data[:position] + bytes([data[position] ^ 0x15]) + data[position + 1 :]
        )
        try:
            door.check(path)
            outcomes.add("facts")
        except ModelError as error:
            outcomes.add(error.code)
    assert {"not-onnx", "facts"} <= outcomes
