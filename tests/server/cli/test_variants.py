"""`variant`: what was tried, and whether what ships is what its recipe makes."""

import json
from pathlib import Path

import pytest
from tests.server.builds.models import dense, load, save, wide, write_set
from tests.support.commands import Commands
from tests.support.server import ServerUnderTest

from modelfleet_manifests.release import File
from modelfleet_server.blobs.service import keep
from modelfleet_server.catalog import versions
from modelfleet_server.catalog.tables import VersionVariant

RELEASE = "demo/checked@1.0.0"
LINEAGE = {
    "code": "1" * 64,
    "data": "2" * 64,
    "environment": "3" * 64,
    "hyperparameters": {},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, admin: Commands) -> Path:
    """What a built version was made from."""
    folder = tmp_path_factory.mktemp("files")
    save(wide(), folder / "dense.onnx")
    (folder / "dense.lineage.json").write_text(json.dumps(LINEAGE))
    write_set(folder / "eval.npz")
    write_set(folder / "calibration.npz", seed=4)
    done = admin.call(
        *("publish", folder / "dense.onnx", "--model", "demo/checked", "--json"),
        *("--version", "1.0.0", "--eval", folder / "eval.npz"),
        *("--calibration", folder / "calibration.npz"),
        *("--profile", "generic", "--profile", "arm64"),
    )
    assert done.code == 0, done.err
    return folder


def test_candidates_are_listed_with_what_ships_and_why(
    admin: Commands, files: Path
) -> None:
    listed = admin.call("variant", "list", RELEASE, "--profile", "arm64", "--json")
    (build,) = listed.document["items"]
    names = [one["name"] for one in build["candidates"]]
    assert names == ["int8", "int8-tensor", "int8-dynamic", "fp32"]
    told = admin.call("variant", "list", RELEASE).out
    assert "int8 is preferred" in told
    assert "generic" in told


def test_what_was_built_is_the_same_here(admin: Commands, files: Path) -> None:
    done = admin.call("variant", "verify", RELEASE, "--json").document
    assert set(done["variants"]) == {"generic-fp32", "arm64-int8"}
    own = admin.call(
        *("variant", "verify", RELEASE, "--master", files / "dense.onnx"),
        *("--calibration", files / "calibration.npz"),
    )
    assert (own.code, "fetching the master" in own.err) == (0, False)
    assert "built again, the same bytes" in own.out
    assert done["variants"]["arm64-int8"] == {"found": "rebuilt", "differences": []}


def test_another_master_is_refused(admin: Commands, files: Path, tmp_path: Path) -> None:
    other = save(dense(opset=18), tmp_path / "other.onnx")
    done = admin.call("variant", "verify", RELEASE, "--master", other, "--json")
    assert done.code == 4
    assert "is not the one that the release names" in done.error["what"]


def test_a_variant_that_somebody_changed_on_the_server_is_named(
    fleet: ServerUnderTest, admin: Commands, files: Path, tmp_path: Path
) -> None:
    """Whoever owns the server can put any file into its place, digest and all."""
    model = load(files / "dense.onnx")
    model.graph.node[-1].input[0] = "x"
    blob = fleet.blobs.put(save(model, tmp_path / "changed.onnx"))
    with fleet.database.write() as session:
        keep(session, blob, at_ms=1)
        row = versions.require_version(session, *RELEASE.split("@"))
        held = session.get(VersionVariant, (row.id, "generic"))
        assert held
        (variant,) = [v for v in versions.variants_of(session, row.id)
                      if v.profile == "generic"]  # fmt: skip
        before = held.variant_json
        file = File(name="model.onnx", digest=blob.digest, length=blob.length)
        held.variant_json = before.replace(variant.digest, file.digest)
        session.add(held)
    done = admin.call("variant", "verify", RELEASE, "--profile", "generic", "--json")
    assert done.code == 4
    assert "it adds or changes 1 MatMul" in done.error["what"]
    assert "generic-fp32" in done.error["variants"]


def test_a_profile_that_was_not_built_is_refused(admin: Commands, files: Path) -> None:
    done = admin.call("variant", "verify", RELEASE, "--profile", "armv7", "--json")
    assert done.code == 4
    assert "no such variants" in done.error["what"]


def test_only_what_the_gate_blocks_is_overridden(admin: Commands, files: Path) -> None:
    wish = ("--candidate", "fp32", "--reason", "accepted by the plant", "--json")
    done = admin.call("variant", "override", RELEASE, "--profile", "generic", *wish)
    assert (done.code, done.error["code"]) == (5, "build-not-gated")
    none = admin.call("variant", "override", RELEASE, "--profile", "armv7", *wish)
    assert (none.code, "not built for" in none.error["what"]) == (4, True)
