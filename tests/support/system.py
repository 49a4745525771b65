"""System programs that some tests need and `make system` brings.

Where one is missing the test is skipped by its name; with `CI` set it fails, since there
everything must have run.
"""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / ".cache" / "system" / "bin"
PLACES = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", str(UNPACKED)]
)


def find_program(*names: str) -> Path | None:
    """Return the first of these programs that is installed or unpacked."""
    for name in names:
        if found := shutil.which(name, path=PLACES):
            return Path(found)
    return None


def require_mosquitto() -> Path:
    """Return the Mosquitto executable, or end the test."""
    return find_program("mosquitto") or give_up("mosquitto")


def require_chromium() -> Path:
    """Return the Chromium executable, or end the test."""
    return find_program("chromium", "chromium-browser", "google-chrome") or give_up(
        "chromium"
    )


def require_postgresql() -> Path:
    """Return the directory with `initdb` and `postgres`, or end the test."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    unpacked = sorted(
        (UNPACKED.parent / "postgresql").glob("root/usr/lib/postgresql/*/bin")
    )
    found = find_program("initdb")
    for place in [*debian, *unpacked, *([found.parent] if found else [])]:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    return give_up("postgresql")


def give_up(part: str) -> NoReturn:
    """Skip the running test for want of `part`; where CI is set, fail it."""
    reason = f"{part} is neither installed nor unpacked: make system"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
