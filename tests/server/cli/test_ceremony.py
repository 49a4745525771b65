"""A ceremony of several people by command, and the server that it begins."""

from pathlib import Path

import pytest
from tests.support.commands import Commands
from tests.support.server import API, PASSPHRASE, ServerUnderTest

from modelfleet_server.kit.access import Role
from modelfleet_server.trust.approver import read_public


@pytest.fixture
def people(tmp_path: Path) -> Commands:
    environ = {
        "MODELFLEET_PASSPHRASE": PASSPHRASE,
        "MODELFLEET_HOME": str(tmp_path / "fleet"),
    }
    return Commands(tmp_path, environ)


def prepare(people: Commands, folder: Path) -> Path:
    """Have three people join, and two of them asked for."""
    file = folder / "ceremony.json"
    two = [
        word
        for role in ("root", "targets", "namespaces")
        for word in ("--threshold", f"{role}=2")
    ]
    assert people.call("ceremony", "begin", str(file), *two, "--json").code == 0
    for name in ("ann", "ben", "eve"):
        key = str(folder / f"{name}.key")
        assert people.call("key", "new", key, "--json").document["fleet"] is None
        joined = people.call("ceremony", "join", str(file), "--name", name, "--key", key)
        assert joined.code == 0, joined.err
    return file


@pytest.mark.slow
def test_two_of_three_people_begin_a_fleet_and_run_it(
    people: Commands, tmp_path: Path
) -> None:
    file = prepare(people, tmp_path)
    closed = people.call("ceremony", "close", str(file), "--json").document
    assert closed["people"] == ["ann", "ben", "eve"]
    early = people.call("ceremony", "finish", str(file), "--json")
    assert early.code == 5
    for name in ("ann", "eve"):
        key = str(tmp_path / f"{name}.key")
        done = people.call("ceremony", "sign", str(file), "--key", key, "--yes", "--json")
        assert done.code == 0, done.err
    shown = people.call("ceremony", "show", str(file), "--json").document
    assert set(shown["missing"].values()) == {0}
    begun = people.call("ceremony", "finish", str(file), "--json").document
    for name in ("ann", "ben", "eve"):
        own = tmp_path / f"{name}.key"
        assert people.call("ceremony", "adopt", begun["root"], "--key", str(own)).code == 0
        assert read_public(own).fleet == begun["fleet"]
    server = ServerUnderTest.start(tmp_path / "fleet", duties=API)
    try:
        found = server.client(Role.VIEWER).get("/api/v1/trust").json()
        assert found["fleet"] == begun["fleet"]
    finally:
        server.stop()
    again = people.call("ceremony", "finish", str(file), "--json")
    assert again.code in {4, 5}


def test_a_ceremony_is_not_begun_over_another_nor_signed_before_it_is_closed(
    people: Commands, tmp_path: Path
) -> None:
    file, key = tmp_path / "ceremony.json", str(tmp_path / "ann.key")
    people.call("ceremony", "begin", str(file))
    people.call("key", "new", key)
    people.call("ceremony", "join", str(file), "--name", "ann", "--key", key)
    assert people.call("ceremony", "begin", str(file), "--json").code == 4
    signed = people.call("ceremony", "sign", str(file), "--key", key, "--yes", "--json")
    assert signed.code == 5
    shown = people.call("ceremony", "show", str(file))
    assert "People: ann." in shown.out
    stranger = str(tmp_path / "stranger.key")
    people.call("key", "new", stranger)
    people.call("ceremony", "close", str(file))
    refused = people.call(
        "ceremony", "sign", str(file), "--key", stranger, "--yes", "--json"
    )
    assert refused.code == 6


@pytest.mark.parametrize(
    "wish", [("sign", "--key", "k"), ("close",), ("show",), ("finish",)]
)
def test_a_file_that_is_no_ceremony_is_named(
    people: Commands, tmp_path: Path, wish: tuple[str, ...]
) -> None:
    (tmp_path / "other.json").write_text("{}")
    step, *rest = wish
    done = people.call("ceremony", step, str(tmp_path / "other.json"), *rest, "--json")
    assert done.code == 4
    assert "other.json" in done.error["what"]
