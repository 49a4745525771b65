"""Processes of the demonstration: started, watched, and never left behind."""

import sys
from pathlib import Path

import pytest
from tests.support.waiting import eventually

from modelfleet_server.demo.stage import Child, Stage
from modelfleet_server.demo.waiting import PromiseError, wait_for
from modelfleet_server.kit.errors import ConflictError

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
one = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(one.pid, flush=True)
one.wait()
""",
]
BROKEN = [sys.executable, "-c", "import sys; sys.exit('the disk is full')"]


def lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # ended, and nobody asked yet


def test_every_process_and_the_temporary_home_are_gone_when_the_stage_closes() -> None:
    started: list[Child] = []

    def play() -> None:
        with Stage() as stage:
            started.append(stage.start("sleeper", SLEEPER))
            assert lives(started[0].process.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play()
    (child,) = started
    assert not lives(child.process.pid)
    assert not child.log.parent.parent.exists()


def test_a_process_that_does_not_end_is_killed_with_what_it_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelfleet_server.demo.stage.STOP_S", 0.3)
    with Stage() as stage:
        child = stage.start("stubborn", STUBBORN)
        eventually(lambda: child.log.read_text().strip(), "it is up")
        grandchild = int(child.log.read_text())
        assert lives(grandchild)
    assert not lives(child.process.pid)
    eventually(lambda: not lives(grandchild), "what it started has ended")


def test_a_process_that_ended_is_named_with_the_end_of_its_log() -> None:
    with Stage() as stage:
        stage.start("server", BROKEN).process.wait(20)
        with pytest.raises(PromiseError) as error:
            stage.check()
    assert "server ended by itself with 1" in error.value.what
    assert "the disk is full" in error.value.hint


def test_a_named_home_is_kept_and_must_be_empty(tmp_path: Path) -> None:
    home = tmp_path / "demo"
    with Stage(home):
        pass
    assert home.is_dir()
    with pytest.raises(ConflictError, match="is not empty"):
        Stage(home)


def test_commands_do_not_see_the_settings_of_whoever_runs_the_demonstration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELFLEET_TOKEN", "of another server")
    program = [sys.executable, "-c", "import os; print(dict(os.environ))"]
    with Stage() as stage:
        stage.use(MODELFLEET_SERVER="http://127.0.0.1:1")
        seen = stage.run("show", program)
    assert "of another server" not in seen
    assert "http://127.0.0.1:1" in seen


def test_a_command_that_fails_says_which_and_why() -> None:
    with Stage() as stage, pytest.raises(PromiseError) as error:
        stage.run("modelfleet publish", BROKEN)
    assert "`modelfleet publish` ended with 1" in error.value.what
    assert "the disk is full" in error.value.hint


def test_what_never_comes_is_named_with_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    with pytest.raises(PromiseError) as error:
        wait_for(lambda: None, "the first report", within_s=0.05, log=log, every_s=0.01)
    assert error.value.what == "waited in vain for the first report, 0.05 s"
    assert "line 99" in error.value.hint
    assert "line 50" not in error.value.hint
