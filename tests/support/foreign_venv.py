"""A virtual environment of its own for somebody else's package, made once in `.cache`."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[2] / ".cache" / "foreign"
INSTALL_S = 150


def python_with(requirement: str, name: str) -> Path:
    """Return the interpreter of an environment that holds `requirement`.

    Skips the test, by name, where no package registry is within reach.
    """
    folder = CACHE / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--retries", "1"]
        try:
            done = subprocess.run(
                [*pip, "--disable-pip-version-check", requirement],
                capture_output=True,
                check=False,
                text=True,
                timeout=INSTALL_S,
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"{requirement} did not install within {INSTALL_S} s")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["?"])[-1]
            pytest.skip(f"{requirement} cannot be installed on {sys.platform}: {last}")
        (folder / "complete").touch()
    return python
