"""The agent's own tests once more, as 64-bit ARM programs that QEMU's user mode runs.

Everything is real but the processor: Debian's Python for arm64, and the aarch64 wheels of
numpy, zstandard, PyNaCl and ONNX Runtime. `tools/arm64_root.sh` makes the root.
"""

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUPS = {
    "store": ["tests/agent/store", "tests/agent/test_journal.py"],
    "delta": ["tests/manifests/delta"],
    "verification": ["tests/agent/trust", "tests/manifests/test_documents.py"],
    "runtime": ["tests/agent/runtime"],
}
UNFIT = {
    "tests/manifests/delta/test_command.py": "the command is the server's",
    "tests/manifests/delta/test_memory.py": "memory would be the emulator's, too",
    "tests/agent/runtime/test_limits.py": "QEMU reserves addresses and threads of its own",
    "tests/agent/runtime/test_foreign_client.py": "the client is another machine's",
}
_SELFTEST = "tests/agent/runtime/test_selftest.py::test_a_bad_release_fails_with_its_reason"
_CLIENT = "tests/agent/runtime/test_client.py::test_a"
UNLIMITED = [
    f"{_SELFTEST}[memory hog]",
    f"{_CLIENT}_model_that_wants_too_much_memory_is_contained",
    f"{_CLIENT}_request_that_the_model_fails_on_is_counted_as_its_error",
]
"""What needs a limit of memory, which QEMU's user mode does not put on its programs."""
"""What says nothing about the agent under an emulator, and why."""


@functools.cache
def arm_python() -> str:
    """Return what starts Python of the root; skips by name where there is none."""
    made = subprocess.run(
        [str(ROOT / "tools/arm64_root.sh")],
        capture_output=True,
        check=False,
        text=True,
        timeout=900,
    )
    if made.returncode:
        pytest.skip(f"no root for arm64: {made.stderr.strip().splitlines()[-1]}")
    return f"{made.stdout.strip()}/bin/modelfleet-python-aarch64"


@pytest.mark.slow
@pytest.mark.arm64
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("group", GROUPS)
def test_it_passes_on_64_bit_arm(group: str) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", "--timeout", "900"]
    options += [f"--ignore={path}" for path in UNFIT]
    options += [f"--deselect={test}" for test in UNLIMITED]
    done = subprocess.run(
        [arm_python(), "-m", "pytest", *options, *GROUPS[group]],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": "/nonexistent"},
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"\b\d+ passed\b", done.stdout), done.stdout[-500:]
