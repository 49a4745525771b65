"""`variant export`: what is compiled into a device that no agent runs on."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tests.server.builds.models import save, wide, write_set
from tests.server.cli.test_variants import LINEAGE
from tests.support.commands import Commands

from modelfleet_manifests.digests import sha256

RELEASE = "demo/tiny@1.0.0"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, admin: Commands) -> None:
    folder = tmp_path_factory.mktemp("tiny")
    save(wide(), folder / "tiny.onnx")
    (folder / "tiny.lineage.json").write_text(json.dumps(LINEAGE))
    write_set(folder / "eval.npz")
    done = admin.call(
        *("publish", folder / "tiny.onnx", "--model", "demo/tiny", "--version", "1.0.0"),
        *("--eval", folder / "eval.npz", "--calibration", folder / "eval.npz"),
        *("--profile", "microcontroller", "--profile", "generic"),
        *("--approve", "--yes"),
    )
    assert done.code == 0, done.err


def unpack(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        members = {it.name: archive.extractfile(it) for it in archive.getmembers()}
        return {name: file.read() for name, file in members.items() if file}


@pytest.mark.usefixtures("released")
def test_the_bundle_has_all_that_is_needed_and_can_be_checked(
    admin: Commands, tmp_path: Path
) -> None:
    target = tmp_path / "tiny.tar"
    done = admin.call("variant", "export", RELEASE, "--out", target, "--json").document
    held = unpack(target)
    assert sorted(held) == done["contents"]
    assert set(held) == {"model.onnx", "golden.npz", "variant.json", "SHA256SUMS"}
    for line in held["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert sha256(held[name]) == digest
    about = json.loads(held["variant.json"])
    assert about["release"] == done["release"]
    assert about["variant"]["files"][0]["digest"] == sha256(held["model.onnx"])
    golden = np.load(io.BytesIO(held["golden.npz"]))
    (scores,) = ort.InferenceSession(held["model.onnx"]).run(None, {"x": golden["in.x"]})
    tolerance = about["variant"]["golden"]
    allowed = float(tolerance["atol"]) + float(tolerance["rtol"]) * np.abs(scores)
    assert (np.abs(scores - golden["out.scores"]) <= allowed).all()


@pytest.mark.usefixtures("released")
def test_the_same_release_gives_the_same_bytes(admin: Commands, tmp_path: Path) -> None:
    both = [tmp_path / "one.tar", tmp_path / "two.tar"]
    for target in both:
        assert admin.call("variant", "export", RELEASE, "--out", target).code == 0
    assert both[0].read_bytes() == both[1].read_bytes()


@pytest.mark.usefixtures("released")
def test_what_is_not_there_is_told_and_nothing_is_written(
    admin: Commands, tmp_path: Path
) -> None:
    target = tmp_path / "tiny.tar"
    other = admin.call("variant", "export", RELEASE, "--profile", "armv7", "--out", target)
    assert (other.code, "generic, microcontroller" in other.err) == (4, True)
    nowhere = admin.call("variant", "export", RELEASE, "--out", tmp_path / "no" / "x.tar")
    assert (nowhere.code, "cannot be written" in nowhere.err) == (4, True)
    assert list(tmp_path.iterdir()) == []
