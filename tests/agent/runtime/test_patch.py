"""Patches are applied in a limited child, and only a result as signed is left."""

import hashlib
import os
from pathlib import Path

import pytest
from tests.agent import models

from modelfleet_agent.errors import RetryableError
from modelfleet_agent.runtime import patch
from modelfleet_agent.store import Store
from modelfleet_manifests import delta

OLD, NEW = models.linear(0.0), models.linear(1.0)
DIGEST = hashlib.sha256(NEW).hexdigest()


@pytest.fixture(scope="module")
def difference() -> bytes:
    return delta.encode(OLD, NEW)


@pytest.fixture
def files(store: Store, difference: bytes) -> tuple[Path, Path, Path]:
    old = store.path_of(models.put(store, "model.onnx", OLD).digest)
    source = store.partials / "patch"
    source.write_bytes(difference)
    return old, source, store.incoming(DIGEST)


def test_a_patch_makes_the_signed_file(
    store: Store, files: tuple[Path, Path, Path]
) -> None:
    old, source, new = files
    patched = patch.run(old, source, new, digest=DIGEST, length=len(NEW))
    assert patched.memory_kib > 0
    assert store.adopt(DIGEST, len(NEW)).read_bytes() == NEW


def test_patching_again_after_a_power_cut_is_fine(files: tuple[Path, Path, Path]) -> None:
    old, source, new = files
    new.write_bytes(os.urandom(10_000))
    patch.run(old, source, new, digest=DIGEST, length=len(NEW))
    assert new.read_bytes() == NEW


@pytest.mark.parametrize("harm", ["truncated", "altered", "wrong base", "garbage"])
def test_a_bad_patch_is_refused_and_leaves_nothing(
    files: tuple[Path, Path, Path], harm: str
) -> None:
    old, source, new = files
    data = source.read_bytes()
    if harm == "truncated":
        source.write_bytes(data[: len(data) // 2])
    elif harm == "altered":
        source.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    elif harm == "garbage":
        source.write_bytes(os.urandom(500))
    else:
        old.chmod(0o600)
        old.write_bytes(models.linear(7.0))
    with pytest.raises(patch.PatchError) as caught:
        patch.run(old, source, new, digest=DIGEST, length=len(NEW))
    assert caught.value.code.startswith("E_PATCH")
    assert not new.exists()


def test_a_patch_that_makes_something_else_is_refused(
    files: tuple[Path, Path, Path],
) -> None:
    old, source, new = files
    with pytest.raises(patch.PatchError):
        patch.run(old, source, new, digest="0" * 64, length=len(NEW))
    with pytest.raises(patch.PatchError):
        patch.run(old, source, new, digest=DIGEST, length=len(NEW) - 1)
    assert not new.exists()


def test_a_missing_old_file_is_worth_a_retry(files: tuple[Path, Path, Path]) -> None:
    old, source, new = files
    old.unlink()
    with pytest.raises(RetryableError, match="E_DISK"):
        patch.run(old, source, new, digest=DIGEST, length=len(NEW))
