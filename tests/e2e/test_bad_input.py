"""Bad input, as an operator gives it: the real command against a real server.

Every test compares exit code and message, and the database and the home of the server
before and after: nothing may be half written.
"""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.server.builds.models import dense, save, with_external_weights, write_set
from tests.support.commands import PATHS, ROOT, RUN, Commands, Done
from tests.support.server import PASSPHRASE, begin_fleet, make_token
from tests.support.waiting import eventually

from modelfleet_server.kit.access import Role
from modelfleet_server.kit.db import Database
from modelfleet_server.settings import Settings

DATABASE = ("modelfleet.db", "modelfleet.db-wal", "modelfleet.db-shm")
LINEAGE = {
    "code": "1" * 64,
    "data": "2" * 64,
    "environment": "3" * 64,
    "hyperparameters": {},
}


class Snapshot(NamedTuple):
    """All rows of all tables, and the digests of all files in the home."""

    rows: dict[str, list[tuple[Any, ...]]]
    files: dict[str, str]


def look(home: Path) -> Snapshot:
    """Take a snapshot, without what runs by itself.

    That is what the broker and the signer remember, locks, and which processes live.
    """
    with closing(sqlite3.connect(home / DATABASE[0], timeout=30)) as database:
        names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        rows = {
            name: sorted(database.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)
            for (name,) in names.fetchall()
            if name != "job_executor"
        }
    files = {
        str(path.relative_to(home)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.name not in DATABASE and path.suffix != ".lock"
        if path.relative_to(home).parts[0] != "broker" and "signer.db" not in path.name
    }
    return Snapshot(rows, files)


def jobs_of(home: Path) -> set[str]:
    """Return the states that jobs are in."""
    with closing(sqlite3.connect(home / DATABASE[0], timeout=30)) as database:
        return {state for (state,) in database.execute("SELECT state FROM job")}


def settled(home: Path) -> Snapshot:
    """Return a snapshot of a server that has nothing left to do."""
    found: list[Snapshot] = []

    def quiet() -> bool:
        found.append(look(home))
        works = {"queued", "running"} & jobs_of(home)
        return not works and len(found) > 3 and all(one == found[-1] for one in found[-4:])

    eventually(quiet, "the server is quiet")
    return found[-1]


class Plant(NamedTuple):
    """A served home, commands of its admin, and files to publish.

    One device, on x86, is in the groups `line` and `free`. `demo/dense` 1.0.0 runs
    everywhere, 2.0.0 has a variant for arm64 only. A rollout of 1.0.0 to `line` is paused.
    """

    home: Path
    admin: Commands
    files: Path

    def publish(self, model: Path, *more: str, version: str = "3.0.0") -> list[str]:
        return [
            *("publish", str(model), "--model", "demo/dense", "--version", version),
            *("--eval", str(self.files / "eval.npz")),
            *("--lineage", str(self.files / "lineage.json"), *more),
        ]


@pytest.fixture(scope="session")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    folder = tmp_path_factory.mktemp("plant")
    home, files = folder / "fleet", folder / "files"
    files.mkdir()
    save(dense(), files / "dense.onnx")
    write_set(files / "eval.npz")
    (files / "lineage.json").write_text(json.dumps(LINEAGE))
    begin_fleet(Settings(home))
    with served(home, folder / "log") as url:
        with closing(Database(Settings(home).database_url)) as database:
            token = make_token(database, Role.ADMIN)
        admin = Commands(
            folder,
            {
                "MODELFLEET_SERVER": url,
                "MODELFLEET_TOKEN": token,
                "MODELFLEET_PASSPHRASE": PASSPHRASE,
                "MODELFLEET_HOME": str(home),
            },
        )
        made = Plant(home, admin, files)
        furnish(made)
        yield made


class served:  # noqa: N801 reads as a sentence
    """Runs `modelfleet serve` until the block ends."""

    def __init__(self, home: Path, log: Path) -> None:
        self.address = home / "server.json"
        command = ("serve", "--home", str(home), "--port", "0", "--broker", "embedded")
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUN, *command],
                env=Commands(log.parent).variables,
                stdout=out,
                stderr=out,
            )

    def __enter__(self) -> str:
        eventually(
            lambda: self.address.exists() or self.process.poll() is not None,
            "the server answers",
            timeout_s=60,
        )
        assert self.process.poll() is None
        return str(json.loads(self.address.read_text())["url"])

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()


def furnish(plant: Plant) -> None:
    """Bring the plant to where its description says it is."""
    call, model = plant.admin.call, plant.files / "dense.onnx"
    sign = ("--approve", "--yes", "--waive")
    for version, profile in (("1.0.0", "generic"), ("2.0.0", "arm64")):
        more = ("--calibration", str(plant.files / "eval.npz"), "--profile", profile, *sign)
        require(call(*plant.publish(model, *more, version=version)))
    claim = require(call("device", "claim", "cam-1", "--label", "line=a", "--json"))
    enrolled = enrol(plant, json.loads(claim.out)["token"], plant.files / "cam-1")
    assert enrolled.code == 0, enrolled.err
    require(call("group", "create", "line", "--selector", "line=a"))
    require(call("group", "create", "free", "--device", "cam-1"))
    started = require(call("rollout", "start", "demo/dense@1.0.0", "-g", "line", "--json"))
    require(call("rollout", "pause", json.loads(started.out)["id"]))


def require(done: Done) -> Done:
    assert done.code == 0, done.err
    return done


def enrol(plant: Plant, token: str, directory: Path) -> Done:
    """Run `modelfleet-agent enrol`, on a machine that says it is an x86 one."""
    declared = plant.files / "facts.json"
    declared.write_text('{"arch": "x86_64", "cpu": ["avx2"]}')
    program = "import sys; from modelfleet_agent.cli import main; sys.exit(main())"
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, "enrol", "--dir", str(directory)),
            *("--server", plant.admin.environ["MODELFLEET_SERVER"]),
            *("--token", token, "--declare", str(declared)),
        ],
        env={**plant.admin.variables, "PYTHONPATH": PATHS},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


Refused = Callable[..., None]


@pytest.fixture
def refused(plant: Plant) -> Refused:
    """Runs a command that must fail, and compares everything."""

    def check(*command: str, code: int, says: tuple[str, ...]) -> None:
        before = settled(plant.home)
        done = plant.admin.run(*command)
        assert (done.code, done.out) == (code, ""), done.err
        for words in says:
            assert words in done.err
        assert "Traceback" not in done.err
        assert look(plant.home) == before

    return check


def test_not_an_onnx_file(plant: Plant, refused: Refused, tmp_path: Path) -> None:
    model = tmp_path / "notes.onnx"
    model.write_text("this is no model\n" * 100)
    says = ("notes.onnx is not an ONNX file", "Export the model again")
    refused(*plant.publish(model), code=4, says=says)


def test_external_data_that_is_missing(
    plant: Plant, refused: Refused, tmp_path: Path
) -> None:
    model = with_external_weights(tmp_path, "weights.bin")
    says = ("needs the file 'weights.bin', which is not beside it",)
    refused(*plant.publish(model), code=4, says=says)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_external_data_that_climbs_out(
    plant: Plant, refused: Refused, tmp_path: Path, location: str
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (tmp_path / "model").mkdir()
    model = with_external_weights(tmp_path / "model", location)
    refused(*plant.publish(model), code=4, says=(location, "outside of its folder"))


def test_a_version_that_exists(plant: Plant, refused: Refused) -> None:
    refused(
        *plant.publish(plant.files / "dense.onnx", version="1.0.0"),
        code=5,
        says=("demo/dense 1.0.0 is there already", "publish a higher one"),
    )


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "latest"])
def test_a_version_that_is_not_semantic(
    plant: Plant, refused: Refused, version: str
) -> None:
    command = plant.publish(plant.files / "dense.onnx", version=version)
    refused(*command, code=4, says=(version,))


def test_a_group_selector_that_matches_nothing(refused: Refused) -> None:
    refused(
        *("group", "create", "moon", "--selector", "site=moon"),
        code=4,
        says=("'site=moon' matches no device", "modelfleet device list"),
    )


def test_a_rollout_whose_profiles_lack_a_variant(refused: Refused) -> None:
    refused(
        *("rollout", "start", "demo/dense@2.0.0", "--group", "free"),
        code=4,
        says=("no member of group 'free' can run demo/dense 2.0.0", "rollout plan"),
    )


def test_a_second_rollout_on_the_same_slot_and_group(refused: Refused) -> None:
    refused(
        *("rollout", "start", "demo/dense@1.0.0", "--group", "line"),
        code=5,
        says=("is paused on slot 'dense' of group 'line'", "modelfleet rollout undo"),
    )


def test_a_claim_token_used_twice(plant: Plant, tmp_path: Path) -> None:
    claim = plant.admin.run("device", "claim", "cam-2", "--json").document
    first = enrol(plant, claim["token"], tmp_path / "first")
    assert first.code == 0, first.err
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    before = settled(plant.home)

    second = enrol(plant, claim["token"], tmp_path / "second")
    assert second.code == 1
    assert "claim" in second.err
    assert look(plant.home) == before
    assert {path: path.read_bytes() for path in files} == files
    assert not (tmp_path / "second" / "enrolment.json").exists()


def test_a_broker_that_cannot_be_reached_at_start(tmp_path: Path) -> None:
    home = tmp_path / "fleet"
    begin_fleet(Settings(home))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and nobody listens
        broker = f"mqtt://127.0.0.1:{nobody.getsockname()[1]}"
        command = ("serve", "--home", home, "--port", "0", "--broker", broker)
        before = look(home)
        done = Commands(tmp_path).run(*command)
    assert done.code == 7
    assert f"broker {broker} cannot be used" in done.err
    assert "Traceback" not in done.err
    assert look(home) == before
    assert not (home / "server.json").exists()
