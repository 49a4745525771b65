"""How the agent starts a child process: limited, in its own group, dying with its parent.

No `preexec_fn`: the supervisor has threads. `launcher.py` sets the limits in the child and
then becomes the wanted program.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import modelfleet_agent
import modelfleet_manifests
from modelfleet_agent.errors import RetryableError

LAUNCHER = Path(__file__).with_name("launcher.py")
MIB = 1 << 20
_PASSED_ON = ("PATH", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class Limits:
    """What a child may use; None leaves a limit open.

    Attributes:
        wall_s: Seconds until it is killed.
        cpu_s: Seconds of CPU time.
        memory_mb: Address space, MiB.
        file_mb: Largest file that it may write, MiB.
        files: Open files.
        output_kb: What it may write to standard output, KiB.
        nice: Niceness.
        oom_score: Who is killed first when memory ends; 1000 is this one.
    """

    wall_s: float = 60
    cpu_s: int | None = None
    memory_mb: int | None = None
    file_mb: int | None = 1
    files: int | None = 64
    output_kb: int = 1024
    nice: int = 10
    oom_score: int = 1000


def python_child(module: str, *arguments: str) -> list[str]:
    """Return the command that runs `module` of this agent in a child."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment() -> dict[str, str]:
    """Return the bare environment of children: where our packages are, and few threads."""
    roots = [
        Path(str(p.__file__)).parents[1] for p in (modelfleet_agent, modelfleet_manifests)
    ]
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(str, roots))),
        "PYTHONUTF8": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # onnxruntime's Linux wheel otherwise writes a device id into the home directory
        "ORT_DISABLE_TELEMETRY": "1",
        # One heap, which keeps what is freed until the reaper's `malloc_trim`: a load that
        # gives memory back and takes it again takes half as long again, and two heaps keep
        # a model's size more (measured: docs/agent.md)
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": str(32 * MIB),
        "MALLOC_TOP_PAD_": str(16 * MIB),
        "MALLOC_TRIM_THRESHOLD_": str(1024 * MIB),
    }


def spawn(
    argv: Sequence[str],
    limits: Limits,
    *,
    pass_fds: Sequence[int] = (),
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` under `limits` (all but wall time and output) in a group of its own.

    The child dies with the *thread* that calls this: a long-lived child needs a long-lived
    thread.

    Raises:
        RetryableError: `E_SPAWN`: it could not be started.
    """
    caps = {
        "CORE": 0,
        "AS": limits.memory_mb and limits.memory_mb * MIB,
        "FSIZE": limits.file_mb and limits.file_mb * MIB,
        "NOFILE": limits.files,
        "CPU": limits.cpu_s,
    }
    spec = {
        "parent": os.getpid(),
        "nice": limits.nice,
        "oom_score": limits.oom_score,
        "limits": {name: value for name, value in caps.items() if value is not None},
    }
    command = [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(spec), *argv]
    try:
        return subprocess.Popen(  # noqa: S603 - our own command
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            env=child_environment() | dict(environment or {}),
            start_new_session=True,
        )
    except OSError as error:
        what = f"cannot start {argv[0]}: {error.strerror}"
        raise RetryableError("E_SPAWN", what, hint="memory or processes ran out") from error


def signal_name(code: int) -> str:
    """Return `signal 11 (SIGSEGV)` for the exit code -11."""
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a child that is not reaped yet, with everything that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
