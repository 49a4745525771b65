"""A child is limited, dies with its parent, and always leaves a reason."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.server.builds.models import (
    CALIBRATION,
    EVALUATION,
    dense,
    digits,
    endless,
    greedy,
    save,
    weight_bytes,
    with_external_weights,
    write_set,
)
from tests.support.waiting import eventually

from modelfleet_server.builds import children
from modelfleet_server.builds.errors import (
    BuildError,
    ChildError,
    DatasetError,
    ExternalDataError,
    NotOnnxError,
)
from modelfleet_server.builds.messages import BuildJob, Built, Limits
from modelfleet_server.builds.recipes import plan_for
from modelfleet_server.jobs.domain import Progress

SMALL = Limits(cpu_s=30, wall_s=60.0)


def dense_job(folder: Path, model: onnx.ModelProto, profile: str = "generic") -> BuildJob:
    return BuildJob(
        master=str(save(model, folder / "master.onnx")),
        evaluation=str(write_set(folder / "set.npz")),
        calibration=None,
        profile=plan_for(profile),
    )


def run(job: BuildJob, folder: Path, limits: Limits = SMALL) -> Built:
    scratch = folder / "scratch"
    scratch.mkdir()
    return children.build(job, limits, scratch, children.Ask())


def child_pids(parent: int) -> list[int]:
    """Return the build children that `parent` started, from whichever of its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{parent}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return [pid for pid in found if b"builds.child" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def test_a_model_is_inspected_in_a_child() -> None:
    assert children.inspect(digits()).parameters == 81402


def test_what_the_door_refuses_arrives_with_class_code_and_hint(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"hello")
    with pytest.raises(NotOnnxError, match="not an ONNX file") as caught:
        children.inspect(tmp_path / "model.onnx")
    assert caught.value.code == "not-onnx"
    assert caught.value.hint


def test_external_data_is_packed_into_one_file(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(weight_bytes())
    path = with_external_weights(tmp_path, "weights.bin")
    with pytest.raises(ExternalDataError, match=r"weights\.bin"):
        children.inspect(path)
    packed = tmp_path / "packed.onnx"
    assert children.inspect(path, packed=packed).external == ["weights.bin"]
    assert children.inspect(packed).external == []
    tensor = onnx.load(packed).graph.initializer[0]
    assert np.array_equal(onnx.numpy_helper.to_array(tensor), np.eye(4, 3))


def test_a_build_in_a_child_tells_its_progress(tmp_path: Path) -> None:
    seen: list[Progress] = []
    job = BuildJob(
        master=str(digits()),
        evaluation=str(EVALUATION),
        calibration=str(CALIBRATION),
        profile=plan_for("arm64"),
    )
    built = children.build(job, SMALL, tmp_path, children.Ask(seen.append))
    assert built.precision == "int8"
    assert (tmp_path / "model.onnx").stat().st_size == built.model.length
    assert [progress.done for progress in seen] == list(range(8))
    assert {progress.of for progress in seen} == {8}


def test_a_wrong_data_set_is_named(tmp_path: Path) -> None:
    job = BuildJob(
        master=str(save(dense(), tmp_path / "master.onnx")),
        evaluation=str(EVALUATION),
        calibration=None,
        profile=plan_for("generic"),
    )
    with pytest.raises(DatasetError, match="the evaluation set"):
        run(job, tmp_path)


def test_a_model_that_never_answers_ends_at_its_cpu_limit(tmp_path: Path) -> None:
    limits = Limits(cpu_s=1, wall_s=60.0)
    with pytest.raises(ChildError, match="more than 1 s of CPU time") as caught:
        run(dense_job(tmp_path, endless()), tmp_path, limits)
    assert caught.value.hint


def test_a_model_that_never_answers_ends_at_its_wall_limit(tmp_path: Path) -> None:
    limits = Limits(cpu_s=60, wall_s=1.0)
    with pytest.raises(ChildError, match="did not end within 1 s"):
        run(dense_job(tmp_path, endless()), tmp_path, limits)


def test_a_model_that_wants_too_much_memory_fails_and_nothing_else(tmp_path: Path) -> None:
    limits = Limits(memory_mb=1024, cpu_s=30, wall_s=60.0)
    with pytest.raises((BuildError, ChildError), match=r"(?i)alloc|memory"):
        run(dense_job(tmp_path, greedy(6)), tmp_path, limits)


def test_a_file_beyond_the_limit_ends_the_child(tmp_path: Path) -> None:
    job = dense_job(tmp_path, dense(weights=np.zeros((4, 3), np.float32)))
    limits = Limits(cpu_s=30, wall_s=60.0, file_mb=0)
    with pytest.raises(ChildError):
        run(job, tmp_path, limits)


def test_a_killed_child_leaves_a_clear_reason(tmp_path: Path) -> None:
    def kill(_progress: Progress) -> None:
        for pid in child_pids(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    job = dense_job(tmp_path, endless())
    with pytest.raises(ChildError, match="ended by SIGKILL"):
        children.build(job, SMALL, tmp_path, children.Ask(kill))


def test_stop_ends_a_child_at_once_and_is_no_failure(tmp_path: Path) -> None:
    stop = threading.Event()
    ask = children.Ask(lambda _progress: stop.set(), stop)
    with pytest.raises(children.StoppedError):
        children.build(dense_job(tmp_path, endless()), SMALL, tmp_path, ask)
    assert not child_pids(os.getpid())


PARENT = """
import sys
from pathlib import Path
from modelfleet_server.builds import children
from modelfleet_server.builds.messages import BuildJob, Limits
from modelfleet_server.builds.recipes import plan_for
master, evaluation, folder = sys.argv[1:]
plan = plan_for("generic")
job = BuildJob(master=master, evaluation=evaluation, calibration=None, profile=plan)
ask = children.Ask(lambda progress: print(progress.step, flush=True))
children.build(job, Limits(), Path(folder), ask)
"""


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    job = dense_job(tmp_path, endless())
    argv = [sys.executable, "-c", PARENT, job.master, job.evaluation, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"reading the master\n"
        (child,) = child_pids(parent.pid)
        parent.kill()
    eventually(lambda: not Path(f"/proc/{child}").exists(), "the child is gone")


def test_a_child_sees_nothing_of_the_servers_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELFLEET_PASSPHRASE", "secret")
    seen: list[bytes] = []

    def look(_progress: Progress) -> None:
        pids = child_pids(os.getpid())
        seen.extend(Path(f"/proc/{pid}/environ").read_bytes() for pid in pids)

    children.build(dense_job(tmp_path, dense()), SMALL, tmp_path, children.Ask(look))
    assert seen
    assert not any(b"secret" in environment for environment in seen)
    assert all(b"ORT_DISABLE_TELEMETRY=1" in environment for environment in seen)
