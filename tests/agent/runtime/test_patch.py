"""Patches are applied in a limited child, and only a result as signed is left."""

import hashlib
import os
from pathlib import Path

import msgspec
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


def spec(files: tuple[Path, Path, Path], **changes: object) -> patch.Spec:
    old, source, new = map(str, files)
    plain = patch.Spec(old=old, patch=source, new=new, digest=DIGEST, length=len(NEW))
    return msgspec.structs.replace(plain, **changes)


def test_a_patch_makes_the_signed_file(
    store: Store, files: tuple[Path, Path, Path]
) -> None:
    patched = patch.run(spec(files))
    assert patched.memory_kib > 0
    assert store.adopt(DIGEST, len(NEW)).read_bytes() == NEW


def test_patching_again_after_a_power_cut_is_fine(files: tuple[Path, Path, Path]) -> None:
    new = files[2]
    new.write_bytes(os.urandom(10_000))
    patch.run(spec(files))
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
        patch.run(spec(files))
    assert caught.value.code.startswith("E_PATCH")
    assert not new.exists()


def test_a_patch_that_makes_something_else_is_refused(
    files: tuple[Path, Path, Path],
) -> None:
    new = files[2]
    with pytest.raises(patch.PatchError):
        patch.run(spec(files, digest="0" * 64))
    with pytest.raises(patch.PatchError):
        patch.run(spec(files, length=len(NEW) - 1))
    assert not new.exists()


def test_a_missing_old_file_is_worth_a_retry(files: tuple[Path, Path, Path]) -> None:
    files[0].unlink()
    with pytest.raises(RetryableError, match="E_DISK"):
        patch.run(spec(files))


def test_a_patch_is_applied_while_it_comes(
    store: Store, files: tuple[Path, Path, Path], difference: bytes
) -> None:
    _, source, new = files
    source.write_bytes(b"")
    patching = patch.Patching(spec(files, grows=True))
    with source.open("ab", buffering=0) as file:
        for at in range(0, len(difference), 100):
            file.write(difference[at : at + 100])
            patching.grown(file.tell())
    patching.finish()
    assert store.adopt(DIGEST, len(NEW), new).read_bytes() == NEW


def test_a_patch_that_stops_growing_is_truncated(
    files: tuple[Path, Path, Path], difference: bytes
) -> None:
    patching = patch.Patching(spec(files, grows=True))
    patching.grown(len(difference) - 1)  # what lies behind was not told of
    with pytest.raises(patch.PatchError, match="truncated"):
        patching.finish()
    assert not files[2].exists()


def test_patching_that_is_abandoned_leaves_nothing(
    files: tuple[Path, Path, Path], difference: bytes
) -> None:
    patching = patch.Patching(spec(files, grows=True))
    patching.grown(len(difference) // 2)
    patching.abandon()
    assert not files[2].exists()
