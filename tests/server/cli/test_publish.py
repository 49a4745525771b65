"""`publish`, `approve`, `proposal`, `release`, `revoke`: from a file to what is signed."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.server.builds.models import (
    dense,
    greedy,
    save,
    weight_bytes,
    with_external_weights,
    write_set,
)
from tests.server.cli.conftest import commands_of
from tests.support.commands import Commands, Done
from tests.support.jobs import fail_one
from tests.support.server import ServerUnderTest
from tests.support.waiting import eventually

from modelfleet_server.builds.errors import BuildError
from modelfleet_server.jobs.kinds import Kinds
from modelfleet_server.kit.access import Role

LINEAGE = {
    "code": "1" * 64,
    "data": "2" * 64,
    "environment": "3" * 64,
    "hyperparameters": {"rate": 0.1},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its lineage and its evaluation set."""
    folder = tmp_path_factory.mktemp("files")
    save(dense(), folder / "dense.onnx")
    (folder / "dense.lineage.json").write_text(json.dumps(LINEAGE))
    write_set(folder / "eval.npz")
    return folder


def wish(files: Path, version: str, *more: str, model: str = "demo/dense") -> list[str]:
    return [
        *("publish", str(files / "dense.onnx"), "--model", model, "--version", version),
        *("--eval", str(files / "eval.npz"), "--profile", "generic", *more),
    ]


@pytest.fixture(scope="module")
def publishing(admin: Commands, files: Path) -> Done:
    """A version was built, proposed, signed and released, and this was said."""
    return admin.call(*wish(files, "1.0.0", "--approve", "--yes"))


@pytest.fixture(scope="module")
def published(publishing: Done) -> str:
    """Its name."""
    assert publishing.code == 0, publishing.err
    return "demo/dense@1.0.0"


def test_what_is_published_is_told_in_words(publishing: Done) -> None:
    assert publishing.out.endswith(
        "demo/dense@1.0.0 is released: devices may be told to run it.\n"
    )
    assert "generic-fp32" in publishing.out
    assert "Adds release demo/dense 1.0.0" in publishing.err
    assert "Built again here: generic-fp32, rebuilt." in publishing.err


def test_a_published_version_shows_what_was_measured_and_who_signed(
    admin: Commands, published: str
) -> None:
    shown = admin.call("release", "show", published, "--json").document
    assert shown["variants"][0]["metrics"]["accuracy"] == "1.0000"
    assert shown["lineage"]["hyperparameters"] == {"rate": "0.1"}
    assert {one["actor"] for one in shown["approvals"]} == {"user:admin"}
    words = admin.call("release", "show", published).out
    assert "generic-fp32" in words
    assert "user:admin" in words
    listed = admin.call("release", "list", "--model", "demo/dense", "--json").document
    assert [one["version"] for one in listed["items"]] == ["1.0.0"]


def test_a_version_waits_for_somebody_who_may_sign_and_does(
    fleet: ServerUnderTest, admin: Commands, files: Path, tmp_path: Path
) -> None:
    operator = commands_of(fleet, tmp_path, Role.OPERATOR)
    more = ("--waive", "--json")
    built = operator.call(*wish(files, "1.0.0", *more, model="demo/two")).document
    assert built["state"] == "proposed"
    first = built["proposal"]
    waiting = operator.call("proposal", "list", "--state", "open", "--json").document
    assert [one["id"] for one in waiting["items"]] == [first]
    assert "missing" in operator.call("proposal", "show", first).out

    refused = operator.call("approve", first, "--yes", "--json")
    assert refused.code == 6
    assert refused.error["needs"] == "approver"
    unasked = admin.call("approve", first)
    assert unasked.code == 4
    assert "Adds release demo/two 1.0.0" in unasked.err
    wrong = admin.acting(MODELFLEET_PASSPHRASE="something else")
    unopened = wrong.call("approve", first, "--yes", "--json")
    assert (unopened.code, unopened.error["code"]) == (6, "wrong-passphrase")
    shown = admin.call("proposal", "show", first, "--json").document
    assert (shown["state"], shown["signatures"]) == ("open", [])

    withdrawn = operator.call("proposal", "withdraw", first, "--yes", "--json").document
    assert withdrawn["state"] == "withdrawn"
    again = operator.call("release", "propose", "demo/two@1.0.0", "--json").document
    signed = admin.call("approve", again["proposal"], "--yes", "--json").document
    assert (signed["state"], signed["missing"]) == ("published", 0)
    assert any("Adds release demo/two 1.0.0" in line for line in signed["changes"])


def test_check_looks_at_the_files_and_asks_no_server(nobody: Commands, files: Path) -> None:
    done = nobody.call(*wish(files, "1.0.0", "--check", "--json"))
    assert done.document["nodes"] == 2
    assert done.document["schema"]["inputs"][0]["name"] == "x"
    assert "can be published" in nobody.call(*wish(files, "1.0.0", "--check")).out


def test_a_file_alone_is_checked(nobody: Commands, files: Path, tmp_path: Path) -> None:
    good = nobody.call("publish", "--check", files / "dense.onnx")
    assert (good.code, "can be published" in good.out) == (0, True)
    bad = save(greedy(80), tmp_path / "greedy.onnx")
    done = nobody.call("publish", "--check", bad)
    assert (done.code, done.out) == (4, "")
    assert "greedy.onnx needs more memory" in done.err
    assert len(done.err.strip().splitlines()) <= 2
    (tmp_path / "no.onnx").write_bytes(b"no model")
    told = nobody.call("publish", "--check", tmp_path / "no.onnx", "--json")
    assert (told.code, told.error["code"]) == (4, "not-onnx")


def test_publishing_needs_more_than_a_file(nobody: Commands, files: Path) -> None:
    done = nobody.call("publish", files / "dense.onnx", "--json")
    assert done.code == 2
    assert "--model, --version and --eval" in done.error["what"]


def test_external_data_beside_the_model_is_published_with_it(
    server: ServerUnderTest, files: Path, tmp_path: Path
) -> None:
    model = with_external_weights(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").write_bytes(weight_bytes())
    operator = commands_of(server, tmp_path, Role.OPERATOR)
    done = operator.call(
        "publish", model, "--model", "demo/five", "--version", "1.0.0",
        "--eval", files / "eval.npz", "--lineage", files / "dense.lineage.json",
        "--no-wait", "--json",
    )  # fmt: skip
    assert done.document["state"] == "building"
    master = server.blobs.read(done.document["master"])
    assert weight_bytes() in master
    assert weight_bytes() not in model.read_bytes()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--eval", "missing.npz"), "missing.npz"),
        (("--lineage", "missing.json"), "missing.json"),
        (("--calibration", "dense.onnx"), "dense.onnx"),
        (("--profile", "The Toaster"), "The Toaster"),
        (("--slot", "../x"), "../x"),
        (("--rollback-to", "one"), "one"),
        (("--model", "dense"), "dense"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_sent(
    nobody: Commands, files: Path, more: tuple[str, str], words: str
) -> None:
    option, value = more
    given = files / value if option in {"--eval", "--lineage", "--calibration"} else value
    done = nobody.call(*wish(files, "1.0.0", "--json", option, str(given)))
    assert done.code == 4
    assert words in done.error["what"]


def test_a_lineage_that_is_missing_says_what_to_write(
    nobody: Commands, files: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.onnx"
    bare.write_bytes((files / "dense.onnx").read_bytes())
    done = nobody.call(
        "publish", bare, "--model", "demo/x", "--version", "1.0.0",
        "--eval", files / "eval.npz", "--json",
    )  # fmt: skip
    assert done.code == 4
    assert '"hyperparameters"' in done.error["hint"]


def test_a_build_that_fails_says_why_and_how_to_try_again(
    server: ServerUnderTest, files: Path, tmp_path: Path
) -> None:
    operator = commands_of(server, tmp_path, Role.OPERATOR)

    def fail_the_build() -> bool:
        """Do what the worker does, which this server lacks."""
        kinds = server.parts.get(Kinds)
        return fail_one(server.database, kinds, BuildError("too deep")) is not None

    with ThreadPoolExecutor() as pool:
        worker = pool.submit(eventually, fail_the_build, "a build waits", 60)
        done = operator.call(*wish(files, "1.0.0", "--json"))
        assert worker.result()
    assert done.code == 4
    assert "generic: too deep" in done.error["what"]
    assert "release retry demo/dense@1.0.0" in done.error["hint"]
    again = operator.call("release", "retry", "demo/dense@1.0.0", "--json").document
    assert [one["state"] for one in again["items"]] == ["queued"]


def test_nothing_is_retried_where_nothing_failed(admin: Commands, published: str) -> None:
    assert admin.call("release", "retry", published).code == 4


def test_a_revocation_is_proposed_or_signed_at_once_and_stays(
    admin: Commands, published: str
) -> None:
    say = ("revoke", published, "--reason", "tested too little", "--yes", "--json")
    proposed = admin.call(*say, "--propose").document
    assert proposed["state"] == "open"
    shown = admin.call("release", "show", published, "--json").document
    assert shown["state"] == "released"
    admin.call("proposal", "withdraw", proposed["id"], "--yes")

    done = admin.call(*say).document
    assert (done["missing"], done["name"]) == (0, shown["release"])
    shown = admin.call("release", "show", published, "--json").document
    assert shown["state"] == "revoked"
    assert admin.call(*say).code == 5


@pytest.mark.parametrize("name", ["demo/dense", "dense@1.0.0", "demo/dense@one"])
def test_a_release_is_named_by_model_and_version(admin: Commands, name: str) -> None:
    assert admin.call("release", "show", name).code == 4
