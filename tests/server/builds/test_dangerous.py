"""Models that hurt whoever opens them: each is refused in words, by `publish --check` too.

Each was seen to hang, to grow, or to be accepted by ONNX's checker and by ONNX Runtime.
"""

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper
from tests.server.builds.dangerous import (
    chain,
    counting_to_the_end_of_time,
    cycle,
    divided,
    doubled_over_and_over,
    doubling_calls,
    expanding,
    foreign_operator,
    future_format,
    future_opset,
    growing,
    guessing,
    huge_input,
    laughing,
    linear_classifier,
    nan_weights,
    no_nodes,
    oversized,
    recursive,
    scanned,
    sequence_output,
    stateful,
    still_training,
    unknown_operator,
    words_in,
    zero_divided,
)
from tests.server.builds.desk import Desk
from tests.server.builds.models import (
    EVALUATION,
    dense,
    digits,
    endless,
    greedy,
    save,
    weight_bytes,
    with_external_weights,
    write_set,
)
from tests.support.jobs import work_off

from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.builds import children, service
from modelfleet_server.builds.domain import State
from modelfleet_server.builds.errors import ModelError
from modelfleet_server.builds.worker import Builder, Stores
from modelfleet_server.jobs.kinds import Kind
from modelfleet_server.kit.db import Database

MIB = 1 << 20


CASES: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "a cycle": (cycle, "not a valid ONNX model"),
    "a future file format": (future_format, "(IR) 99"),
    "a future opset": (future_opset, "opset 99"),
    "an unknown operator": (unknown_operator, "Frobnicate"),
    "an operator of a strange domain": (foreign_operator, "my.company"),
    "a function that calls itself": (recursive, "calls itself"),
    "a tensor larger than any file": (oversized, "declares the shape"),
    "functions that multiply": (laughing, "more than 50000 nodes"),
    "a hundred thousand nodes": (lambda: chain(100_000), "more than 50000 nodes"),
    "6 GB by ConstantOfShape": (lambda: greedy(6), "memory"),
    "80 GB by ConstantOfShape": (lambda: greedy(80), "memory"),
    "48 GB by Expand": (expanding, "memory"),
    "a loop without end": (endless, "within 10 s"),
    "a loop that grows": (growing, "memory"),
    "a division by zero": (divided, "not finite"),
    "a division by zero that black pictures show": (zero_divided, "not finite"),
    "weights that are no numbers": (nan_weights, "not finite"),
    "random numbers": (guessing, "differently each time"),
    "dropout as in training": (still_training, "differently each time"),
    "a loop of 2^62 rounds": (counting_to_the_end_of_time, "within 10 s"),
    "a scan that keeps 7 GB": (scanned, "memory"),
    "functions that double": (doubling_calls, "call each other deeper"),
    "tensors that double": (doubled_over_and_over, "memory"),
    "an input of 17 GB": (huge_input, "more than 1028 MiB"),
    "a sequence as output": (sequence_output, "cannot exchange"),
    "no nodes": (no_nodes, "not an ONNX file"),
}


SLOW = (
    "a loop without end",
    "a loop of 2^62 rounds",
    "a scan that keeps 7 GB",
    "tensors that double",
)


@pytest.mark.parametrize(
    "case",
    [pytest.param(it, marks=[pytest.mark.slow] if it in SLOW else []) for it in CASES],
)
def test_a_dangerous_model_is_refused_in_words(tmp_path: Path, case: str) -> None:
    make, words = CASES[case]
    path = save(make(), tmp_path / "model.onnx")
    with pytest.raises(ModelError) as caught:
        children.check(path)
    assert words in caught.value.what
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"only text", os.urandom(4096), b"\x08\x08" * 500],
    ids=["empty", "text", "noise", "almost"],
)
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx is not an ONNX file"):
        children.check(path)


@pytest.mark.parametrize(
    "place",
    ["../weights.bin", "/etc/passwd", "link.bin", "fifo", "folder", "a/../../weights.bin",
     "linked/weights.bin", "", "weights.bin\0x"],
)  # fmt: skip
def test_external_data_from_elsewhere_are_refused(tmp_path: Path, place: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "weights.bin").write_bytes(weight_bytes())
    (inner / "link.bin").symlink_to(tmp_path / "weights.bin")
    (inner / "linked").symlink_to(tmp_path)
    (inner / "folder").mkdir()
    os.mkfifo(inner / "fifo")
    with pytest.raises(ModelError, match=r"external data|which is not"):
        children.check(with_external_weights(inner, place))


def test_external_data_at_a_huge_offset_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(weight_bytes())
    path = with_external_weights(tmp_path, "weights.bin", length=1 << 40)
    with pytest.raises(ModelError, match=r"weights\.bin"):
        children.check(path)


def test_external_data_beside_the_model_are_run_with_it(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(weight_bytes())
    facts = children.check(with_external_weights(tmp_path, "weights.bin"))
    assert facts.external == ["weights.bin"]


@pytest.mark.parametrize("what", ["folder", "fifo", "nothing", "device"])
def test_what_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    path = Path("/dev/zero") if what == "device" else tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    with pytest.raises(ModelError, match=r"is not a file|cannot be read"):
        children.check(path)


@pytest.mark.parametrize("make", [stateful, words_in, linear_classifier])
def test_models_of_other_kinds_come_in(
    tmp_path: Path, make: Callable[[], ModelProto]
) -> None:
    assert children.check(save(make(), tmp_path / "model.onnx")).nodes >= 1


def test_good_models_come_in(tmp_path: Path) -> None:
    assert children.check(digits()).nodes > 5
    assert children.check(save(chain(2000), tmp_path / "long.onnx")).nodes == 2001


def test_a_model_that_is_picky_about_sizes_comes_in(tmp_path: Path) -> None:
    """It takes sequences of 7 only, which nobody can guess."""
    model = dense(helper.make_node("Reshape", ["x", "shape"], ["h"]))
    shape = numpy_helper.from_array(np.array([-1, 4], np.int64), "shape")
    model.graph.initializer.append(shape)
    fixed = numpy_helper.from_array(np.ones((1, 7), np.float32), "seven")
    model.graph.initializer.append(fixed)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "length"
    model.graph.node.insert(0, helper.make_node("Add", ["x", "seven"], ["moved"]))
    children.check(save(model, tmp_path / "picky.onnx"))


def test_a_model_that_fails_on_the_only_size_it_has_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["x", "far"], ["h"], axis=0)
    model = dense(node)
    model.graph.initializer.append(
        numpy_helper.from_array(np.array([1 << 20], np.int64), "far")
    )
    with pytest.raises(ModelError, match="fails on plain inputs"):
        children.check(save(model, tmp_path / "model.onnx"))


@pytest.mark.slow
def test_damaged_models_are_refused_or_harmless(tmp_path: Path) -> None:
    """Most still load: only a digest or a signature tells; but none does any harm."""
    data = save(dense(), tmp_path / "good.onnx").read_bytes()
    rng = np.random.default_rng(5)
    path = tmp_path / "damaged.onnx"
    for position in rng.choice(len(data), 12, replace=False):
        damaged = bytearray(data)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        with suppress(ModelError):
            children.check(path)


@pytest.fixture
def worker(database: Database, blobs: BlobStore, tmp_path: Path) -> tuple[Kind, Desk]:
    stores = Stores(database, blobs, tmp_path / "builds")
    return Builder(stores).kind, Desk(database, blobs, tmp_path)


@pytest.mark.slow
def test_no_dangerous_master_takes_down_a_worker(worker: tuple[Kind, Desk]) -> None:
    """Each fails its own build with a reason; the next good one is built."""
    kind, desk = worker
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    versions = [
        desk.publish(
            "generic",
            master=save(CASES[case][0](), desk.folder / f"{number}.onnx"),
            evaluation=write_set(desk.folder / f"{number}.npz"),
            calibration=None,
        )
        for number, case in enumerate(
            ("functions that multiply", "80 GB by ConstantOfShape", "a loop that grows",
             "a division by zero")
        )
    ]  # fmt: skip
    good = desk.publish("generic", evaluation=EVALUATION)
    work_off(desk.database, kind)
    with desk.database.read() as session:
        for version in versions:
            (build,) = service.list_builds(session, version)
            assert build.state is State.FAILED
            assert build.reason
        assert service.all_done(session, good)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
