"""A profile of the operator's own: published for, and built again by who holds its file."""

import json
from pathlib import Path

import pytest
from tests.server.builds.models import save, wide, write_set
from tests.server.builds.test_profiles import OWN
from tests.server.cli.conftest import DUTIES, commands_of
from tests.server.cli.test_variants import LINEAGE
from tests.support.server import ServerUnderTest

from modelfleet_server.kit.access import Role


@pytest.mark.slow
def test_a_version_is_published_and_verified_for_a_profile_of_our_own(
    tmp_path: Path,
) -> None:
    home = tmp_path / "fleet"
    (home / "profiles").mkdir(parents=True)
    (home / "profiles" / "acme.yaml").write_text(OWN)
    save(wide(), tmp_path / "wide.onnx")
    (tmp_path / "wide.lineage.json").write_text(json.dumps(LINEAGE))
    write_set(tmp_path / "eval.npz")
    server = ServerUnderTest.start(home, duties=DUTIES)
    try:
        admin = commands_of(server, tmp_path / "admin", Role.ADMIN)
        done = admin.call(
            *("publish", tmp_path / "wide.onnx", "--model", "demo/own", "--json"),
            *("--version", "1.0.0", "--eval", tmp_path / "eval.npz", "--profile", "acme"),
        )
        assert done.code == 0, done.err
        unknown = admin.call("variant", "verify", "demo/own@1.0.0")
        assert "no recipe for the profile 'acme'" in unknown.err
        holder = admin.acting(MODELFLEET_HOME=str(home))
        verified = holder.call("variant", "verify", "demo/own@1.0.0", "--json").document
        assert verified["variants"]["acme-fp32"]["found"] == "rebuilt"
    finally:
        server.stop()
