"""Patches from earlier files to a new variant, made and tried out in the child."""

import mmap
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from modelfleet_manifests import delta
from modelfleet_manifests.digests import sha256
from modelfleet_server.builds.domain import BuiltPatch

MEMORY = 128 << 20
"""Bytes that applying a patch takes at most, whatever the sizes of the files."""


def make_patches(
    bases: Mapping[str, str], new: Path, folder: Path
) -> tuple[list[BuiltPatch], list[str]]:
    """Write into `folder` the patches to `new` that are worth it.

    A patch is a saving, not a duty (devices fetch the whole file instead), so whatever goes
    wrong with one does not fail the build.

    Args:
        bases: Paths of earlier files by their SHA-256.
        new: The variant's file.
        folder: Where patches go.

    Returns:
        One for each base from which a patch is smaller than `new`, and was seen to give
        exactly its bytes; and what went wrong with others, in words.
    """
    made, problems = [], []
    for digest, path in bases.items():
        try:
            patch = _make(digest, Path(path), new, folder)
        except Exception as error:  # noqa: BLE001 - also defects: told, and gone on
            problems.append(f"no delta from {digest}: {type(error).__name__}: {error}")
            continue
        if patch is not None:
            made.append(patch)
    return made, problems


def _make(digest: str, old: Path, new: Path, folder: Path) -> BuiltPatch | None:
    before, after = _mapped(old), _mapped(new)
    path = folder / f"{digest}.patch"
    with path.open("wb") as out:
        length = sum(out.write(chunk) for chunk in delta.encode_chunks(before, after))
    if length >= len(after):
        path.unlink()
        return None
    _try_out(path, old, after)
    return BuiltPatch(
        base=digest,
        name=path.name,
        length=length,
        method=_main_method(path),
        memory=MEMORY,
    )


def _try_out(patch: Path, old: Path, new: memoryview) -> None:
    with old.open("rb") as base, patch.open("rb") as source:
        delta.apply(
            lambda offset, size: os.pread(base.fileno(), size, offset),
            source.read,
            lambda _made: None,
            new_digest=sha256(bytes(new)),
            new_length=len(new),
        )


def _main_method(patch: Path) -> str:
    """Return the method that makes most of the new file."""
    made: Counter[str] = Counter()
    with patch.open("rb") as source:
        for part in delta.inspect(source.read).parts:
            made[part.method] += part.length
    return made.most_common(1)[0][0] if made else "copy"


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
