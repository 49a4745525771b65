"""What a device says it is, on real machines and on boards rebuilt from their files."""

import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import onnxruntime
import pytest
from tests.support import system

from modelfleet_agent import facts
from modelfleet_agent.errors import UsageError
from modelfleet_agent.facts import RuntimeFacts, detect
from modelfleet_agent.runtime import probe
from modelfleet_agent.runtime.children import child_environment
from modelfleet_agent.runtime.probe.models import EXACT, make_saturation
from modelfleet_manifests.profiles import matching_profiles, read_facts, write_facts
from modelfleet_server.builds import probe as builder

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


def test_the_probe_of_sums_of_bytes_is_the_builders() -> None:
    assert make_saturation() == builder.make_probe()
    assert builder.EXACT == EXACT


def test_saturation_is_found_once_for_a_processor_and_a_runtime(tmp_path: Path) -> None:
    cpuinfo = board(tmp_path / "root", proc__cpuinfo="model name\t: One\nflags\t: avx2\n")
    found = probe.run(tmp_path, root=cpuinfo)
    assert found.saturates is not None
    known = msgspec.json.decode((tmp_path / probe.NAME).read_bytes(), type=probe.Known)
    assert known.runtime == f"onnxruntime {onnxruntime.__version__}"
    assert known.saturates == found.saturates
    lie = msgspec.structs.replace(known, saturates=not found.saturates)
    (tmp_path / probe.NAME).write_bytes(msgspec.json.encode(lie))
    assert probe.run(tmp_path, root=cpuinfo).saturates is lie.saturates  # as it is known
    other = board(tmp_path / "other", proc__cpuinfo="model name\t: Two\nflags\t: avx2\n")
    assert probe.run(tmp_path, root=other).saturates == found.saturates  # found anew
    torn = msgspec.structs.replace(known, saturates=None)
    (tmp_path / probe.NAME).write_bytes(msgspec.json.encode(torn))
    assert probe.run(tmp_path, root=cpuinfo).saturates == found.saturates
    older = msgspec.structs.replace(lie, runtime="onnxruntime 1.0.0")
    (tmp_path / probe.NAME).write_bytes(msgspec.json.encode(older))
    assert probe.run(tmp_path, root=cpuinfo).saturates == found.saturates


@pytest.mark.slow
def test_a_processor_that_clips_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the emulated processors are of this machine's kind")
    monkeypatch.setenv("PATH", system.PLACES)
    names = ("qemu-x86_64", "qemu-x86_64-static")
    qemu = next(filter(None, map(system.find_program, names)), None)
    if qemu is None:
        system.give_up("qemu-x86_64")
    done = subprocess.run(
        [str(qemu), "-cpu", "Haswell", sys.executable, "-P", "-m", probe.MODULE],
        env=os.environ | child_environment(),
        input=b"",
        capture_output=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = msgspec.json.decode(done.stdout, type=RuntimeFacts)
    assert found.saturates
    cpuinfo = "flags : avx2 avx512_vnni\n"  # whatever the kernel says
    root = board(tmp_path, proc__cpuinfo=cpuinfo)
    facts_ = detect(ROOT, found, declared={"arch": "x86_64"}, root=root)
    assert facts.SATURATES in facts_.cpu
    assert matching_profiles(facts_)[0] == "x86-avx2"
    exact = detect(ROOT, RUNTIME, declared={"arch": "x86_64"}, root=root)
    assert matching_profiles(exact)[0] == "x86-vnni"


def test_libraries_of_accelerators_are_known_by_their_files(tmp_path: Path) -> None:
    root = board(
        tmp_path,
        **{
            "usr__lib__aarch64-linux-gnu__libnvinfer.so.8": "",
            "usr__lib__aarch64-linux-gnu__libnvinfer.so.8.6.2": "",
            "usr__local__cuda__lib64__libcudart.so.12.2.140": "",
            "usr__local__cuda__lib64__libcudart.so.old": "",
        },
    )
    runtime = msgspec.structs.replace(RUNTIME, compute="8.7")
    found = detect(ROOT, runtime, root=root)
    assert found.libraries == ["tensorrt 8.6.2", "cuda 12.2.140"]
    assert found.compute == "8.7"


def test_what_changed_since_the_last_boot_is_told_in_words(tmp_path: Path) -> None:
    first = detect(ROOT, RUNTIME, declared={"cpu": ["avx2"], "disk_free_mb": 1})
    assert facts.recall(tmp_path) is None
    assert facts.remember(tmp_path, first) == []
    assert facts.remember(tmp_path, first) == []
    second = msgspec.structs.replace(
        first, cpu=["avx2", "avx_vnni"], runtime="onnxruntime 1.33.0", disk_free_mb=2
    )
    assert facts.remember(tmp_path, second) == [
        "cpu: +avx_vnni",
        "runtime: 'onnxruntime 1.32.0' -> 'onnxruntime 1.33.0'",
    ]
    assert facts.recall(tmp_path) == second
    (tmp_path / facts.NAME).write_bytes(b"rotten")
    assert facts.remember(tmp_path, second) == []
