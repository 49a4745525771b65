"""What a device says it is, on real machines and on boards rebuilt from their files."""

import platform
import tomllib
from pathlib import Path

import pytest

from modelfleet_agent import facts
from modelfleet_agent.errors import UsageError
from modelfleet_agent.facts import RuntimeFacts, detect
from modelfleet_agent.runtime import probe
from modelfleet_manifests.profiles import matching_profiles, read_facts, write_facts

ROOT = Path(__file__).resolve().parents[3]
RUNTIME = RuntimeFacts(
    runtime="onnxruntime 1.32.0", providers=["CPUExecutionProvider"], opset=21
)


def board(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_this_machine_is_described() -> None:
    found = detect(ROOT, probe.run())
    assert found.arch == platform.machine()
    assert found.memory_mb > 0
    assert found.disk_free_mb > 0
    assert "CPUExecutionProvider" in found.providers
    assert found.runtime.startswith("onnxruntime 1.")
    assert found.opset >= 17
    assert not found.declared


def test_an_orin_board_is_known_by_its_files(tmp_path: Path) -> None:
    root = board(
        tmp_path,
        etc__nv_tegra_release="# R36 (release), REVISION: 4.3, BOARD: generic",
        proc__meminfo="MemTotal:        7802668 kB\nMemFree: 1 kB\n",
        proc__cpuinfo="processor\t: 0\nFeatures\t: fp asimd asimddp\n",
    )
    (root / "proc" / "device-tree").mkdir()
    (root / "proc" / "device-tree" / "model").write_bytes(b"NVIDIA Jetson Orin Nano\0")
    found = detect(ROOT, RUNTIME, root=root)
    assert (found.jetson, found.soc) == ("R36.4.3", "NVIDIA Jetson Orin Nano")
    assert found.memory_mb == 7619
    assert found.cpu == ["asimd", "asimddp"]
    assert matching_profiles(found)[0] == "jetson-orin-trt"


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("# R32 (release), REVISION: 7.1, GCID: 29818004", "R32.7.1"),
        ("# R36 (release), REVISION: 2.0, GCID: 1", "R36.2"),
        ("something else", ""),
    ],
)
def test_the_jetson_release_is_read(tmp_path: Path, line: str, release: str) -> None:
    root = board(tmp_path, etc__nv_tegra_release=line)
    assert detect(ROOT, RUNTIME, root=root).jetson == release


def test_only_what_all_cores_can_counts(tmp_path: Path) -> None:
    text = "Features : asimd asimddp\n\nFeatures : asimd\n"
    assert detect(ROOT, RUNTIME, root=board(tmp_path, proc__cpuinfo=text)).cpu == ["asimd"]


def test_a_container_has_the_memory_that_it_may_use(tmp_path: Path) -> None:
    root = board(
        tmp_path,
        proc__meminfo="MemTotal: 8000000 kB\n",
        sys__fs__cgroup__memory="",
    )
    (root / "sys/fs/cgroup/memory.max").write_text("536870912\n")
    assert detect(ROOT, RUNTIME, root=root).memory_mb == 512


def test_declared_facts_replace_probed_ones_and_say_so() -> None:
    found = detect(ROOT, RUNTIME, declared={"arch": "aarch64", "cpu": ["asimddp"]})
    assert (found.arch, found.cpu, found.declared) == ("aarch64", ["asimddp"], True)
    assert found.runtime == RUNTIME.runtime
    assert matching_profiles(found)[0] == "arm64-dotprod"


@pytest.mark.parametrize(
    "declared", [{"arhc": "aarch64"}, {"arch": 64}, {"cpu": "avx2"}, {"declared": False}]
)
def test_a_declared_fact_that_means_nothing_is_refused(declared: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        detect(ROOT, RUNTIME, declared=declared)
    assert caught.value.code == "E_FACTS"


def test_facts_travel_in_reports() -> None:
    found = detect(ROOT, RUNTIME, declared={"soc": "board"})
    assert read_facts(write_facts(found)) == found


def test_a_device_without_a_runtime_still_says_what_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "MODULE", "modelfleet_agent.no_such_module")
    assert probe.run() == RuntimeFacts()


def test_the_agents_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == facts.VERSION
