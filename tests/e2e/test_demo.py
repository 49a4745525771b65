"""The whole demonstration, as `make demo` runs it: real processes, every promise kept."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

MODELFLEET = [
    sys.executable,
    "-c",
    "import sys; from modelfleet_server.main import main; sys.exit(main())",
]
ROOT = Path(__file__).parents[2]
WHOLE_S = 240


def environment(folder: Path) -> Mapping[str, str]:
    """Let temporary homes be made in `folder`, and find the packages also uninstalled."""
    parts = (str(ROOT / part) for part in ("server", "agent", "manifests"))
    return os.environ | {"TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(parts)}


def processes(folder: Path) -> list[str]:
    """Return the command lines that name a directory below `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the demonstration printed."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [*MODELFLEET, "demo", "--no-keep"],
        capture_output=True,
        check=False,
        text=True,
        timeout=WHOLE_S,
        env=environment(folder),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(folder.iterdir()) == [], "the temporary home is still there"
    assert processes(folder) == []
    return done.stdout


@pytest.fixture(scope="module")
def measured(shown: str) -> dict[str, Any]:
    """Its last line."""
    document: dict[str, Any] = json.loads(shown.splitlines()[-1])
    return document


@pytest.mark.timeout(WHOLE_S + 30)
def test_every_step_is_told_in_plain_words_and_a_table_ends_it(shown: str) -> None:
    begun = re.findall(r"^(\d)\. ", shown, re.MULTILINE)
    assert begun == list("1234567")
    assert "runs on this CPU" in shown
    assert "$ modelfleet rollback demo/digits@1.0.0 --group plant --wait" in shown


def test_no_request_failed_while_models_were_swapped(measured: dict[str, Any]) -> None:
    assert measured["failed_requests"] == 0
    assert measured["requests"] > 1000
    assert all(one["requests"] > 100 for one in measured["devices"])


def test_every_kind_of_device_ran_its_variant_and_fetched_a_delta(
    measured: dict[str, Any],
) -> None:
    devices = {one["device"]: one for one in measured["devices"]}
    assert len(devices) == 6
    for name, one in devices.items():
        if name.startswith("jetson"):
            assert one["variant"] == "jetson-orin-trt-fp16"
        if name.startswith("arm64"):
            assert one["variant"] == "arm64-dotprod-int8"
        assert one["declared"] == (not name.startswith("local"))
        assert 0 < one["update_bytes"] <= one["full_bytes"]
        if one["declared"]:  # where int8 measures faster here, local devices may change
            assert one["method"] == "delta"
            assert one["update_bytes"] < one["zstd_bytes"] < one["full_bytes"]


def test_the_gate_let_the_good_update_pass_and_stopped_the_bad_one(
    measured: dict[str, Any],
) -> None:
    good, bad = measured["gates"]
    assert (good["version"], good["outcome"], good["reached"]) == ("1.1.0", "pass", 6)
    assert good["samples"] >= 3 * 200
    assert good["high"] <= 0.05
    assert (bad["version"], bad["outcome"]) == ("1.2.0", "breach")
    assert bad["low"] > 0.05
    assert 0 < bad["reached"] < 6


def test_every_figure_was_really_measured(measured: dict[str, Any]) -> None:
    assert sorted(measured["steps_s"]) == list("1234567")
    assert sum(measured["steps_s"].values()) == pytest.approx(measured["seconds"], abs=2)
    assert measured["rollback_s"] > 0
    assert measured["found_s"] > 0
    assert measured["repaired_s"] > 0


@pytest.fixture
def foreground() -> Iterator[None]:
    """Let children heed Ctrl-C, which a shell has ignored by what it runs behind."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing_behind(
    tmp_path: Path, number: int
) -> None:
    with subprocess.Popen(
        [*MODELFLEET, "demo", "--no-keep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(tmp_path),
    ) as process:
        try:
            eventually(lambda: len(processes(tmp_path)) > 2, "agents are starting", 60)
            process.send_signal(number)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert processes(tmp_path) == []


def test_a_killed_demonstration_leaves_no_process_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*MODELFLEET, "demo", "--no-keep"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(tmp_path),
    ) as process:
        try:
            eventually(lambda: len(processes(tmp_path)) > 2, "agents are starting", 60)
        finally:
            process.kill()
    eventually(lambda: processes(tmp_path) == [], "all of them end", 30)


def test_a_home_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("mine")
    done = subprocess.run(
        [*MODELFLEET, "demo", "--home", str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env=environment(tmp_path),
    )
    assert done.returncode == 5
    assert "is not empty" in done.stderr
    assert list(tmp_path.iterdir()) == [kept]
