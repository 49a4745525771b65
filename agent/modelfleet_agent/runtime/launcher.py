"""Set limits on this process, then become the wanted program.

Run by path (`python -I -S launcher.py SPEC PROGRAM ARGUMENT…`) and importing nothing of
this package, so that it costs about 10 ms. It takes the place of `preexec_fn`, which must
not be used in a process with threads.

SPEC is a JSON object: `parent` (process id to die with), `nice`, `oom_score` and `limits`
(name of a `RLIMIT_` constant without its prefix -> value).
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
ORPHANED = 70
SPARE_CPU_S = 2


def limit(name: str, value: int) -> None:
    """Lower one limit for good; the soft CPU limit leaves time for its own signal."""
    kind = getattr(resource, f"RLIMIT_{name}")
    hard = value + SPARE_CPU_S if name == "CPU" else value
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:
        hard = min(hard, ceiling)
    resource.setrlimit(kind, (min(value, hard), hard))


def main() -> None:
    """Limit, then execute `sys.argv[2:]`."""
    spec = json.loads(sys.argv[1])
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != spec["parent"]:  # it died before the signal was armed
        sys.exit(ORPHANED)
    if spec["oom_score"]:
        with contextlib.suppress(OSError):  # a preference; some sandboxes forbid it
            Path("/proc/self/oom_score_adj").write_text(str(spec["oom_score"]))
    if spec["nice"]:
        os.nice(spec["nice"])
    for name, value in spec["limits"].items():
        limit(name, value)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
