"""The agent's package: a version that does not work here strands no device."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.agent.rig import Rig
from tests.agent.test_supervisor import begin
from tests.support.waiting import eventually

from modelfleet_agent import facts

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "agent/package/launch"
TELLS = """\
import os, sys
words = ("PACKAGE", "ON_TRIAL", "FAILED_UPGRADE")
print(*(os.environ.get("MODELFLEET_AGENT_" + word, "-") for word in words), *sys.argv[1:])
"""


class Device:
    """The package's files on a device; the program in them only tells how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "lib"
        self.kept = folder / "lib.kept"
        self.state = folder / "state" / "upgrade"
        self.install("1.0.0")

    def install(self, version: str) -> None:
        if self.home.exists():
            shutil.copytree(self.home, self.kept, dirs_exist_ok=True)
        program = self.home / "lib" / "modelfleet_agent"
        program.mkdir(parents=True, exist_ok=True)
        (program / "__init__.py").touch()
        (program / "__main__.py").write_text(TELLS)
        (self.home / "VERSION").write_text(f"{version}\n")
        (self.home / "PYTHON").write_text(f"{sys.executable}\n")
        shutil.copy2(LAUNCH, self.home / "launch")

    def prove(self, version: str) -> None:
        self.state.mkdir(parents=True, exist_ok=True)
        (self.state / "proven").write_text(f"{version}\n")

    def start(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.home / "launch"), *(arguments or ("run",))],
            capture_output=True,
            check=True,
            text=True,
            timeout=30,
            env=os.environ | {"MODELFLEET_AGENT_DIR": str(self.state.parent)},
        )
        return done.stdout.strip()


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_the_first_version_on_a_device_has_no_trial(device: Device) -> None:
    for _ in range(5):
        assert device.start() == "1.0.0 - - run"


def test_a_new_version_has_three_starts_to_prove_itself(device: Device) -> None:
    device.prove("1.0.0")
    device.install("2.0.0")
    started = [device.start() for _ in range(5)]
    assert started == ["2.0.0 1 - run"] * 3 + ["1.0.0 - 2.0.0 run"] * 2
    assert device.start("status", "--json") == "1.0.0 - 2.0.0 status --json"


def test_a_version_that_proved_itself_starts_as_often_as_it_likes(device: Device) -> None:
    device.install("2.0.0")
    device.start()
    device.prove("2.0.0")
    for _ in range(5):
        assert device.start() == "2.0.0 - - run"


def test_commands_are_no_tries(device: Device) -> None:
    device.install("2.0.0")
    for _ in range(5):
        assert device.start("status") == "2.0.0 - - status"
    assert device.start() == "2.0.0 1 - run"


def test_the_next_version_has_tries_of_its_own(device: Device) -> None:
    device.prove("1.0.0")
    device.install("2.0.0")
    while device.start().startswith("2.0.0"):
        pass
    (device.home / "VERSION").write_text("2.0.1\n")
    assert device.start() == "2.0.1 1 - run"


def test_a_trial_that_cannot_be_counted_does_not_begin(device: Device) -> None:
    device.install("2.0.0")
    device.state.parent.mkdir()
    device.state.write_text("a file where the folder should be")
    assert device.start() == "1.0.0 - 2.0.0 run"


@pytest.mark.parametrize("damaged", ["", "2.0.0", "2.0.0 many", "2.0.0 -1"])
def test_a_damaged_count_ends_the_trial_or_begins_it_anew(
    device: Device, damaged: str
) -> None:
    device.install("2.0.0")
    device.state.mkdir(parents=True)
    (device.state / "tries").write_text(damaged)
    started = [device.start() for _ in range(4)]
    assert started[-1] == "1.0.0 - 2.0.0 run"


def test_the_version_is_stated_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == facts.VERSION


# The real package. dpkg installs it below a folder, with the package's own scripts.


class Packaged:
    """A device's root with the package in it, and versions of it to install."""

    def __init__(self, folder: Path, package: Path) -> None:
        self.root, self._folder, self._package = folder / "root", folder, package
        for part in ("info", "updates"):
            (self.root / "var/lib/dpkg" / part).mkdir(parents=True)
        (self.root / "var/lib/dpkg/status").touch()
        (self.root / "var/lib/dpkg/available").touch()
        self.home = self.root / "usr/lib/modelfleet-agent"
        self.program = [str(self.root / "usr/bin/modelfleet-agent")]

    @property
    def agent_dir(self) -> Path:
        return self.root / "var/lib/modelfleet-agent"

    def version(self, version: str, *, broken: str = "") -> Path:
        """Make the next version: another number, and a defect where `broken` is code."""
        tree = self._folder / version
        run("dpkg-deb", "-R", str(self._package), str(tree))
        control = tree / "DEBIAN/control"
        old = f"Version: {facts.VERSION}"
        control.write_text(control.read_text().replace(old, f"Version: {version}"))
        home = tree / "usr/lib/modelfleet-agent"
        (home / "VERSION").write_text(f"{version}\n")
        for name, was, now in (
            ("facts", f'"{facts.VERSION}"', f'"{version}"'),
            ("supervisor/loop", "LONGEST_S", f"{broken}\nLONGEST_S"),
        ):
            path = home / "lib/modelfleet_agent" / f"{name}.py"
            path.write_text(path.read_text().replace(was, now, 1))
            for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
                compiled.unlink()  # it is not compared with its source
        made = self._folder / f"{version}.deb"
        run("dpkg-deb", "-Znone", "--build", str(tree), str(made))
        shutil.rmtree(tree)
        return made

    def install(self, package: Path) -> None:
        force = "--force-not-root,script-chrootless,depends"
        run("dpkg", f"--root={self.root}", force, "--install", str(package))

    def kept(self) -> str:
        return (self.home.with_suffix(".kept") / "VERSION").read_text().strip()

    def proven(self) -> str:
        path = self.agent_dir / "upgrade" / "proven"
        return path.read_text().strip() if path.exists() else ""


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package")
    builder = str(ROOT / "tools/agent_package.py")
    run(sys.executable, builder, "--out", str(out), "--compression", "none")
    (made,) = out.glob("*.deb")
    return made


@pytest.fixture
def packaged(package: Path, tmp_path: Path, rig: Rig) -> Packaged:
    if not shutil.which("dpkg"):
        pytest.skip("dpkg is not installed")
    one = Packaged(tmp_path / "device", package)
    one.install(package)
    rig.program, rig.dir = one.program, one.agent_dir
    rig.enrol()
    return one


def agent_version(rig: Rig) -> str:
    return str(rig.reports[-1].facts["agent"]) if rig.reports else ""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_version_that_does_not_work_is_left_for_the_one_before(
    packaged: Packaged, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELFLEET_AGENT_DIR", str(rig.dir))
    release = begin(rig)
    assert packaged.proven() == ""
    prove(rig, packaged, facts.VERSION)
    rig.stop()

    packaged.install(packaged.version("7.0.0", broken="raise SystemExit(3)"))
    assert packaged.kept() == facts.VERSION
    for _ in range(3):
        rig.start()
        assert rig.ended() == 3
    rig.start()
    rig.serves(release)
    eventually(lambda: agent_version(rig) == facts.VERSION, "the one before runs")
    errors = [text for one in rig.reports for text in one.errors]
    assert any("E_UPGRADE: agent 7.0.0 did not prove itself" in text for text in errors)
    rig.stop()

    packaged.install(packaged.version("7.0.1"))
    assert packaged.kept() == facts.VERSION  # 7.0.0 is not worth keeping
    rig.start()
    rig.serves(release)
    prove(rig, packaged, "7.0.1")
    eventually(lambda: agent_version(rig) == "7.0.1", "its version is reported")


def prove(rig: Rig, packaged: Packaged, version: str) -> None:
    """Acknowledge its reports, as the server does, until it has proven itself."""

    def look() -> bool:
        rig.acknowledge()
        return packaged.proven() == version

    eventually(look, f"{version} has proven itself")
