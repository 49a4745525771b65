"""A variant names its tools by the lock file, in the repository and in the wheel."""

import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_wheel
from tests.support import system

from modelfleet_manifests.digests import sha256
from modelfleet_server.builds import toolchain

LOCK = b"numpy==2.1.0 \\\n    --hash=sha256:00\nonnx==1.23.2\nonnxruntime==1.32.0\n"
OF_IT = {"numpy": "2.1.0", "onnx": "1.23.2", "onnxruntime": "1.32.0"}


def test_what_is_installed_as_locked_goes_by_the_lock_files_digest() -> None:
    assert toolchain.toolchain_digest(OF_IT, LOCK) == sha256(LOCK)
    assert toolchain.strays(OF_IT, LOCK) == []


def test_what_is_installed_otherwise_goes_by_its_versions() -> None:
    other = OF_IT | {"onnx": "1.24.0"}
    digest = toolchain.toolchain_digest(other, LOCK)
    assert digest not in (sha256(LOCK), toolchain.toolchain_digest(OF_IT, b""))
    assert toolchain.strays(other, LOCK) == ["onnx 1.24.0 and not 1.23.2"]


def test_the_lock_file_of_the_repository_is_found() -> None:
    assert toolchain.lock_file() == (system.ROOT / "requirements.lock").read_bytes()


def test_the_wheel_carries_the_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(system.ROOT)
    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        held = wheel.read("modelfleet_server/builds/requirements.lock")
    assert held == toolchain.lock_file()
