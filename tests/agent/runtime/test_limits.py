"""A throw-away child ends within its limits, and why it ended is told."""

import os
import sys
import threading
from pathlib import Path

import pytest
from tests.support.waiting import eventually

from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime.limits import Ending, Limits, Outcome, run_limited

ROOMY = Limits(wall_s=20)


def run(
    code: str,
    limits: Limits = ROOMY,
    *,
    stdin: bytes = b"",
    cancel: threading.Event | None = None,
) -> Outcome:
    return run_limited(
        [sys.executable, "-c", code], stdin=stdin, limits=limits, cancel=cancel
    )


def test_what_a_child_reads_and_writes_arrives() -> None:
    data = os.urandom(300_000)
    code = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])"
    outcome = run(code, stdin=data)
    assert outcome.ok
    assert outcome.stdout == data[::-1]
    assert outcome.memory_kib > 1000


@pytest.mark.parametrize(
    ("code", "limits", "ending"),
    [
        ("raise SystemExit(3)", Limits(), Ending.FAILED),
        ("bytearray(1 << 30)", Limits(memory_mb=200), Ending.MEMORY),
        ("while True: pass", Limits(cpu_s=1), Ending.CPU),
        ("import time; time.sleep(60)", Limits(wall_s=0.5), Ending.WALL),
        ("import os; os.abort()", Limits(), Ending.CRASHED),
        ("import os; os.kill(os.getpid(), 11)", Limits(), Ending.CRASHED),
        ("while True: print('x' * 1000)", Limits(output_kb=64), Ending.OUTPUT),
    ],
)
def test_a_child_that_misbehaves_is_ended_with_a_reason(
    code: str, limits: Limits, ending: Ending
) -> None:
    outcome = run(code, limits)
    assert outcome.ending is ending
    assert not outcome.ok
    assert outcome.reason


def test_a_signal_is_named() -> None:
    assert "SIGSEGV" in run("import os; os.kill(os.getpid(), 11)").reason


def test_a_child_writes_no_large_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    outcome = run(f"open({str(path)!r}, 'wb').write(bytes(5 << 20))", Limits(file_mb=1))
    assert outcome.ending is Ending.FAILED
    assert "File too large" in outcome.reason
    assert path.stat().st_size <= 1 << 20


def test_a_child_can_be_cancelled() -> None:
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    assert run("import time; time.sleep(60)", cancel=cancel).ending is Ending.CANCELLED


def test_nothing_that_a_child_started_outlives_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess as s; p = s.Popen(['sleep', '60']);"
        f"open({str(note)!r}, 'w').write(str(p.pid))"
    )
    assert run(code).ok
    pid = int(note.read_text())
    eventually(lambda: not is_running(pid), "the grandchild ends")


def test_a_child_gets_a_bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert b"SECRET_TOKEN" not in run("import os; print(*os.environ)").stdout


def test_a_program_that_is_not_there_is_a_failure() -> None:
    outcome = run_limited(["/no/such/program"], limits=Limits())
    assert outcome.ending is Ending.FAILED
    assert "No such file" in outcome.reason


def test_a_child_that_cannot_be_started_is_retryable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(RetryableError, match="E_SPAWN"):
        run_limited(["true"], limits=Limits())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False
