"""Weights as external data: one more file of a variant, to the byte, all the way."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from tests.server.builds.desk import Desk
from tests.server.builds.models import digits, save, wide, write_set
from tests.support.jobs import work_off

from modelfleet_manifests import delta
from modelfleet_manifests.digests import EMPTY, sha256
from modelfleet_manifests.profiles.definition import Profile
from modelfleet_manifests.profiles.recipe import External, RaiseOpset, Recipe
from modelfleet_server.blobs.service import BlobStore
from modelfleet_server.builds import door, making
from modelfleet_server.builds.mapping import PAGE, WEIGHTS, move_out
from modelfleet_server.builds.messages import BuildJob, Built, Pair, Verdict, VerifyJob
from modelfleet_server.builds.patches import make_patch, weigh_files
from modelfleet_server.builds.recipes import plan_for
from modelfleet_server.builds.verifying import verify
from modelfleet_server.builds.worker import Builder, Stores
from modelfleet_server.catalog import service as catalog
from modelfleet_server.kit.db import Database

SMALL = External(at_least=1024, total=0)
MAPPED = Recipe(name="mapped", precision="fp32", steps=[RaiseOpset(), SMALL])


def mapped() -> Profile:
    """A profile whose only candidate keeps its weights beside the graph."""
    return msgspec.structs.replace(plan_for("generic"), candidates=[MAPPED])


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Built]:
    """A mapped variant of the wide model, as a build leaves it."""
    folder = tmp_path / "made"
    folder.mkdir()
    job = BuildJob(
        master=str(save(wide(), tmp_path / "master.onnx")),
        evaluation=str(write_set(tmp_path / "eval.npz")),
        calibration=None,
        profile=mapped(),
    )
    return folder, making.make(job, folder, lambda _progress: None)


def verify_again(made: tuple[Path, Built], folder: Path) -> Verdict:
    built = made[1]
    job = VerifyJob(
        master=str(made[0].parent / "master.onnx"),
        calibration=None,
        variant=str(made[0] / built.model.name),
        beside=[file.name for file in built.beside],
        profile=mapped(),
        name=built.recipe_name,
        recipe=built.recipe,
        toolchain=built.toolchain,
    )
    folder.mkdir()
    return verify(job, folder)


def test_large_weights_begin_a_page_each_and_small_ones_stay(tmp_path: Path) -> None:
    model = wide()
    assert move_out(model, SMALL, tmp_path)
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    assert places.keys() == {"up", "down"}
    assert {place["location"] for place in places.values()} == {WEIGHTS}
    assert [int(place["offset"]) % PAGE for place in places.values()] == [0, 0]
    first = (tmp_path / WEIGHTS).read_bytes()
    again = tmp_path / "again"
    again.mkdir()
    move_out(wide(), SMALL, again)
    assert (again / WEIGHTS).read_bytes() == first


@pytest.mark.parametrize("step", [External(total=1 << 20), External(at_least=1 << 20)])
def test_a_small_model_stays_one_file(tmp_path: Path, step: External) -> None:
    before = wide()
    assert not move_out(before, step, tmp_path)
    assert before == wide()
    assert not list(tmp_path.iterdir())


def test_a_build_leaves_two_files_that_compute_what_the_master_does(
    made: tuple[Path, Built],
) -> None:
    folder, built = made
    assert [file.name for file in built.files] == ["model.onnx", WEIGHTS]
    (candidate,) = built.front
    assert candidate.size == sum(file.length for file in built.files)
    assert built.metrics["size-bytes"] == str(candidate.size)
    assert door.check(folder / "model.onnx").external == [WEIGHTS]
    x = {"x": np.random.default_rng(1).random((5, 4), np.float32)}
    answers = [
        ort.InferenceSession(path).run(None, x)[0]
        for path in (folder / "model.onnx", folder.parent / "master.onnx")
    ]
    assert np.array_equal(*answers)


def test_it_is_built_again_to_the_byte(made: tuple[Path, Built], tmp_path: Path) -> None:
    assert verify_again(made, tmp_path / "verify").same


def test_a_changed_weight_beside_the_graph_is_named(
    made: tuple[Path, Built], tmp_path: Path
) -> None:
    path = made[0] / WEIGHTS
    data = bytearray(path.read_bytes())
    data[2] ^= 1
    path.write_bytes(data)
    verdict = verify_again(made, tmp_path / "verify")
    assert (verdict.same, verdict.audited) == (False, False)
    assert verdict.differences == ["the numbers of the tensor 'up' are others"]


def test_bytes_behind_the_weights_are_no_audit(
    made: tuple[Path, Built], tmp_path: Path
) -> None:
    """They change no answer, and might be anything."""
    with (made[0] / WEIGHTS).open("ab") as file:
        file.write(b"passenger")
    verdict = verify_again(made, tmp_path / "verify")
    assert (verdict.same, verdict.audited) == (False, False)
    assert verdict.against == [f"{WEIGHTS} has other bytes than its weights, in order"]


def test_one_file_with_the_same_numbers_is_not_the_recipe(
    made: tuple[Path, Built], tmp_path: Path
) -> None:
    onnx.save(onnx.load(made[0] / "model.onnx"), made[0] / "model.onnx")
    one = msgspec.structs.replace(made[1], beside=[])
    verdict = verify_again((made[0], one), tmp_path / "verify")
    assert not verdict.same
    assert f"it lacks the file {WEIGHTS!r}" in verdict.differences
    assert "its files are not those that the recipe writes" in verdict.against


def test_a_graph_that_names_another_file_is_no_model(
    made: tuple[Path, Built], tmp_path: Path
) -> None:
    (made[0] / WEIGHTS).rename(made[0] / "other.bin")
    other = msgspec.structs.replace(made[1].beside[0], name="other.bin")
    beside = msgspec.structs.replace(made[1], beside=[other])
    verdict = verify_again((made[0], beside), tmp_path / "again")
    assert "it has the file 'other.bin'" in verdict.differences[0]
    assert "not even a model" in verdict.differences[-1]


def test_a_worker_keeps_and_packs_both_files(
    database: Database, blobs: BlobStore, tmp_path: Path
) -> None:
    stores = Stores(database, blobs, tmp_path / "builds")
    kind = Builder(stores, profiles={"generic": mapped()}).kind
    version = Desk(database, blobs, tmp_path).publish("generic", master=digits("1.1.0"))
    assert work_off(database, kind) == 1
    with database.read() as session:
        (variant,) = catalog.variants_of(session, version)
        packed = catalog.find_delta(session, variant.files[1].digest, EMPTY)
    assert [file.name for file in variant.files] == ["model.onnx", WEIGHTS]
    for file in variant.files:
        path = blobs.path_of(file.digest)
        assert (sha256(path.read_bytes()), path.stat().st_size) == (
            file.digest,
            file.length,
        )
    assert packed
    assert packed.length < variant.files[1].length


def test_a_delta_of_weights_knows_their_tensors(tmp_path: Path) -> None:
    """From weights beside a graph, and from a model with all in one file."""
    rng = np.random.default_rng(4)
    folders: list[Path] = []
    for number in range(2):
        model = wide()
        for tensor in model.graph.initializer:
            if tensor.name in {"up", "down"}:
                values = rng.normal(size=tuple(tensor.dims)).astype(np.float32)
                if folders:
                    old = onnx.load(folders[0] / "whole.onnx").graph.initializer
                    (before,) = [it for it in old if it.name == tensor.name]
                    values = onnx.numpy_helper.to_array(before) * np.float32(1.0001)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        folder = tmp_path / str(number)
        folder.mkdir()
        save(model, folder / "whole.onnx")
        move_out(model, SMALL, folder)
        save(model, folder / "model.onnx")
        folders.append(folder)
    old, new = folders
    blind = len(delta.encode((old / WEIGHTS).read_bytes(), (new / WEIGHTS).read_bytes()))
    graph = str(new / "model.onnx")
    ways = {"old_graph": str(old / "model.onnx"), "old": str(old / WEIGHTS)}
    for way in (ways, {"old": str(old / "whole.onnx")}):
        pair = Pair(new=str(new / WEIGHTS), name=WEIGHTS, new_graph=graph, **way)
        assert make_patch(pair, tmp_path / "patch").length < 0.8 * blind
    files = [new / "model.onnx", new / WEIGHTS]
    bases = {"model.onnx": str(old / "model.onnx"), WEIGHTS: str(old / WEIGHTS)}
    assert weigh_files(files, bases) < weigh_files(files, {})
