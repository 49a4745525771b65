"""Patches, weighed, made and tried out in the child."""

import hashlib
import mmap
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from modelfleet_manifests import delta
from modelfleet_server.builds.messages import BuiltPatch, Pair

MEMORY = 64 << 20
"""Bytes that applying a patch takes at most, interpreter and all, whatever the sizes."""


def weigh(pair: Pair) -> int:
    """Return about how many bytes the patch of a pair would have."""
    before, after = _mapped(pair.old), _mapped(pair.new)
    return delta.estimate(before, after, sides=_sides(pair, before, after))


def weigh_files(files: Sequence[Path], bases: Mapping[str, str]) -> int:
    """Return about how many bytes a device fetches of a variant.

    Args:
        files: Of the variant, the graph first.
        bases: Paths of what the device has, by name, the graph first; none: nothing.
    """
    graph, total = str(files[0]), 0
    for path in files:
        beside = {"name": path.name, "new_graph": graph} if path != files[0] else {}
        ways = [Pair(old=None, new=str(path), **beside)]
        if bases:
            first = next(iter(bases.values()))
            old = bases.get(path.name, first)
            held = first if old != first else ""
            ways.append(Pair(old=old, new=str(path), old_graph=held, **beside))
        total += min(path.stat().st_size, *map(weigh, ways))
    return total


def make_patch(pair: Pair, path: Path) -> BuiltPatch:
    """Write the patch of a pair to `path`, and see that it gives exactly the new file."""
    began = time.process_time()
    before, after = _mapped(pair.old), _mapped(pair.new)
    target = hashlib.sha256(after).hexdigest()
    patch, length = hashlib.sha256(), 0
    with path.open("wb") as out:
        sides = _sides(pair, before, after)
        for chunk in delta.encode_chunks(before, after, sides=sides):
            patch.update(chunk)
            length += out.write(chunk)
    _try_out(path, before, target, len(after))
    return BuiltPatch(
        target=target,
        base=hashlib.sha256(before).hexdigest(),
        name=path.name,
        length=length,
        method=_main_method(path),
        memory=MEMORY,
        digest=patch.hexdigest(),
        cpu_ms=round((time.process_time() - began) * 1000),
    )


def make_patches(pairs: Iterable[Pair], folder: Path) -> list[BuiltPatch]:
    """Write the patch of each pair into `folder`.

    A patch is a saving, not a duty, so whatever goes wrong with one does not touch the
    others: it is told in `problem`.
    """
    made = []
    for number, pair in enumerate(pairs):
        try:
            made.append(make_patch(pair, folder / f"{number}.patch"))
        except Exception as error:  # noqa: BLE001 - also defects: told, and gone on
            made.append(BuiltPatch(problem=f"{type(error).__name__}: {error}"))
    return made


def pack(
    variant: Sequence[str], others: Sequence[str], folder: Path
) -> tuple[list[BuiltPatch], list[str]]:
    """Pack files of `folder`; return what got smaller, and what went wrong in words.

    Args:
        variant: Names of a variant's files, the graph first.
        others: Names of further files.
        folder: Where all of them are.
    """
    scratch = folder / "packed"
    scratch.mkdir()
    paths = [folder / name for name in (*variant, *others)]
    graph = str(folder / variant[0])
    pairs = [
        Pair(old=None, new=str(path), name=path.name, new_graph=graph)
        if path.name in variant[1:]
        else Pair(old=None, new=str(path))
        for path in paths
    ]
    made = make_patches(pairs, scratch)
    packed = [
        msgspec.structs.replace(patch, name=f"{scratch.name}/{patch.name}")
        for patch, path in zip(made, paths, strict=True)
        if not patch.problem and patch.length < path.stat().st_size
    ]
    return packed, [f"not packed: {one.problem}" for one in made if one.problem]


def _try_out(patch: Path, old: memoryview, digest: str, length: int) -> None:
    with patch.open("rb") as source:
        delta.apply(
            lambda offset, size: old[offset : offset + size],
            source.read,
            lambda _made: None,
            new_digest=digest,
            new_length=length,
        )


def _main_method(patch: Path) -> str:
    """Return the method that makes most of the new file."""
    made: Counter[str] = Counter()
    with patch.open("rb") as source:
        for part in delta.inspect(source.read).parts:
            made[part.method] += part.length
    return made.most_common(1)[0][0] if made else "text"


def _sides(pair: Pair, before: memoryview, after: memoryview) -> delta.SideTensors | None:
    """Return where tensors lie in a pair that has external data, None for other files."""
    if not (pair.old_graph or pair.new_graph):
        return None
    return (
        _tensors(before, pair.old_graph, pair.name),
        _tensors(after, pair.new_graph, pair.name),
    )


def _tensors(data: memoryview, graph: str, name: str) -> tuple[delta.Tensor, ...]:
    try:
        if graph:
            return delta.scan_side_files(_mapped(graph)).get(name, ())
        return delta.scan_model(data).tensors
    except delta.WireError:
        return ()  # not a model, so made as any other file


def _mapped(path: str | None) -> memoryview:
    """Return a file's bytes, mapped; None is the empty file, which cannot be."""
    if path is None or not Path(path).stat().st_size:
        return memoryview(b"")
    with Path(path).open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
