"""`approve` builds again what the server built, and does not sign what it cannot."""

import json
from pathlib import Path

import pytest
from tests.server.builds.models import dense, load, save, write_set
from tests.support.commands import Commands
from tests.support.server import ServerUnderTest

from modelfleet_manifests.keys import PrivateKey
from modelfleet_manifests.release import File
from modelfleet_server.blobs.service import keep
from modelfleet_server.catalog import versions
from modelfleet_server.catalog.tables import VersionVariant

RELEASE = "demo/poisoned@1.0.0"
LINEAGE = {
    "code": "1" * 64,
    "data": "2" * 64,
    "environment": "3" * 64,
    "hyperparameters": {},
}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poisoned")
    save(dense(), folder / "dense.onnx")
    (folder / "dense.lineage.json").write_text(json.dumps(LINEAGE))
    write_set(folder / "eval.npz")
    return folder / "dense.onnx"


@pytest.fixture(scope="module")
def proposal(
    admin: Commands,
    fleet: ServerUnderTest,
    master: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """A release in which whoever owns the server replaced a variant, digest and all."""
    built = admin.call(
        *("publish", master, "--model", "demo/poisoned", "--version", "1.0.0", "--json"),
        *("--eval", master.with_name("eval.npz"), "--profile", "generic"),
    ).document
    admin.call("proposal", "withdraw", built["proposal"], "--yes")
    model = load(master)
    model.graph.node[-1].input[0] = "x"
    path = save(model, tmp_path_factory.mktemp("changed") / "changed.onnx")
    blob = fleet.blobs.put(path)
    with fleet.database.write() as session:
        keep(session, blob, at_ms=1)
        row = versions.require_version(session, *RELEASE.split("@"))
        held = session.get(VersionVariant, (row.id, "generic"))
        assert held
        (variant,) = versions.variants_of(session, row.id)
        held.variant_json = held.variant_json.replace(
            variant.digest, File(name="m", digest=blob.digest, length=blob.length).digest
        )
        session.add(held)
    again = admin.call("release", "propose", RELEASE, "--json").document
    return str(again["proposal"])


def test_a_poisoned_variant_is_not_reproduced_and_not_signed(
    admin: Commands, master: Path, proposal: str
) -> None:
    done = admin.call("approve", proposal, "--master", master, "--yes", "--json")
    assert (done.code, done.error["code"]) == (4, "not-reproduced")
    assert done.error["what"].startswith("NOT REPRODUCED: generic-fp32")
    assert "it adds or changes 1 MatMul" in done.error["what"]
    assert f"release propose {RELEASE} --vouch generic-fp32=waived" in done.error["hint"]
    shown = admin.call("proposal", "show", proposal, "--json").document
    assert (shown["state"], shown["signatures"]) == ("open", [])


def test_an_approvers_own_master_must_be_the_one_that_is_named(
    admin: Commands, proposal: str, tmp_path: Path
) -> None:
    other = save(dense(opset=18), tmp_path / "other.onnx")
    done = admin.call("approve", proposal, "--master", other, "--yes", "--json")
    assert done.code == 4
    assert "is not the one that the release names" in done.error["what"]


def test_what_was_not_reproduced_is_signed_only_where_the_release_says_so(
    admin: Commands, proposal: str
) -> None:
    admin.call("proposal", "withdraw", proposal[:8], "--yes")
    wrong = admin.call(
        "release", "propose", RELEASE, "--vouch", "generic-fp32=fine", "--json"
    )
    assert wrong.code in {2, 4}
    waived = ("--vouch", "generic-fp32=waived", "--json")
    again = admin.call("release", "propose", RELEASE, *waived).document
    assert again["variants"][0]["vouched"] == "waived"
    done = admin.call("approve", again["proposal"][:8], "--yes", "--json").document
    assert done["state"] == "published"
    assert any(line.startswith("NOT REPRODUCED: generic-fp32") for line in done["changes"])


def test_when_roles_end_is_told_and_they_are_renewed(admin: Commands) -> None:
    told = admin.call("proposal", "expiry", "--json")
    assert told.code == 0
    ends = {one["role"]: one["expires_ms"] for one in told.document["roles"]}
    assert {"root", "targets", "revocations", "stops", "timestamp"} <= ends.keys()
    none = admin.call("proposal", "renew", "--json")
    assert (none.code, none.error["what"]) == (4, "no role ends soon")
    renewal = admin.call("proposal", "renew", "revocations", "stops", "--json").document
    assert renewal["kind"] == "renewal"
    signed = admin.call("approve", renewal["id"][:8], "--yes", "--json").document
    assert signed["state"] == "published"
    assert all(line.startswith("Renews ") for line in signed["changes"])
    again = admin.call("proposal", "expiry", "--json").document["roles"]
    assert {one["role"]: one["version"] for one in again}["stops"] == 2


def test_keys_that_are_elsewhere_are_named_in_a_file(
    nobody: Commands, tmp_path: Path
) -> None:
    fleet, public = "f" * 64, PrivateKey.generate().public.hex
    file = tmp_path / "token.json"
    wish = ("key", "link", file, "--fleet", fleet, "--json", "--signer")
    made = nobody.call(*wish, f"namespaces={public},hsm:2").document
    assert made["keys"] == {"namespaces": public}
    shown = nobody.call("key", "show", file, "--json").document
    assert shown == {"fleet": fleet, "keys": {"namespaces": public}}
    for wrong in ("namespaces", f"director={public},hsm:2", "namespaces=zz,hsm:2"):
        other = (*wish[:2], tmp_path / "other.json", *wish[3:])
        assert nobody.call(*other, wrong).code == 4
