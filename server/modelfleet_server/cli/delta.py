"""`modelfleet delta`: make, apply and look into patches between two files.

The codec is imported where it is used: it brings numpy, which `--help` can do without.
Exit 0 when done; 4 when an input is bad, with the reason on standard error and the output
file as it was before.
"""

import contextlib
import json
import mmap
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, NoReturn

import typer

if TYPE_CHECKING:
    from modelfleet_manifests.delta import Inspection, Part, SideTensors, Tensor

BAD_INPUT = 4
_TOP = 10
_MOST_MODELS = 64
"""Models beside a file that are searched for one that names it as external data."""

app = typer.Typer(
    no_args_is_help=True, help="Patches between two versions of a model file."
)

OldFile = Annotated[Path, typer.Argument(metavar="OLD", help="The file a device has.")]
NewFile = Annotated[Path, typer.Argument(metavar="NEW", help="The file it shall have.")]
PatchFile = Annotated[Path, typer.Argument(metavar="PATCH", help="Made by `delta encode`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def encode(
    old: OldFile,
    new: NewFile,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PATCH")],
    as_json: AsJson = False,
) -> None:
    """Write the patch that turns OLD into NEW."""
    from modelfleet_manifests import delta

    with _refusing(old, new, output), _mapped(old) as before, _mapped(new) as after:
        with _replacing(output) as out:
            chunks = delta.encode_chunks(
                before, after, sides=_sides(old, before, new, after)
            )
            size = sum(out.write(chunk) for chunk in chunks)
        facts = {"bytes": size, "old_bytes": len(before), "new_bytes": len(after)}
    share = 100 * size / facts["new_bytes"] if facts["new_bytes"] else 0.0
    if as_json:
        print(json.dumps(facts | {"patch": str(output), "percent": round(share, 4)}))
    else:
        print(f"{output}: {size} bytes, {share:.2f} % of {new}")


@app.command()
def estimate(old: OldFile, new: NewFile, as_json: AsJson = False) -> None:
    """Say about how much a device with OLD would download for NEW, without encoding it."""
    from modelfleet_manifests import delta

    with _refusing(old, new), _mapped(old) as before, _mapped(new) as after:
        size = delta.estimate(before, after, sides=_sides(old, before, new, after))
        facts = {"bytes": size, "old_bytes": len(before), "new_bytes": len(after)}
    if as_json:
        print(json.dumps(facts))
    else:
        share = 100 * size / max(facts["new_bytes"], 1)
        print(f"about {size} bytes, {share:.1f} % of {new}")


@app.command(name="apply")
def apply_patch(
    old: OldFile,
    patch: PatchFile,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="NEW")],
) -> None:
    """Write the file that PATCH makes of OLD."""
    from modelfleet_manifests import delta

    with _refusing(old, patch, output), old.open("rb") as base, patch.open("rb") as source:
        digest, length = _target_of(source)
        with _replacing(output) as out:
            delta.apply(
                lambda offset, size: os.pread(base.fileno(), size, offset),
                source.read,
                out.write,
                new_digest=digest,
                new_length=length,
            )
    print(f"{output}: {length} bytes, sha256 {digest}")


@app.command()
def inspect(
    patch: PatchFile,
    new: Annotated[
        Path | None, typer.Option("--new", metavar="NEW", help="Names the tensors.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what PATCH needs and makes, and which tensors cost most."""
    from modelfleet_manifests import delta

    with _refusing(patch, *([new] if new else [])), patch.open("rb") as source:
        found = delta.inspect(source.read)
        names: dict[int, str] = {}
        if new is not None:
            with _mapped(new) as model:
                names = delta.scan_names(model)
    if as_json:
        rows = [part._asdict() | _facts(part, names, found) for part in found.parts]
        print(json.dumps(found._asdict() | {"parts": rows}))
    else:
        _print_inspection(patch, found, names)


def _facts(part: "Part", names: dict[int, str], found: "Inspection") -> dict[str, object]:
    share = round(part.packed / found.patch_size, 6)
    return {"name": names.get(part.offset), "share": share}


def _print_inspection(patch: Path, found: "Inspection", names: dict[int, str]) -> None:
    total = found.patch_size
    share = 100 * total / max(found.new_size, 1)
    print(f"{patch}: {total} bytes, {share:.2f} % of the new file")
    print(f"  from {found.old_digest} ({found.old_size} bytes)")
    print(f"  to   {found.new_digest} ({found.new_size} bytes)")
    print(f"  head {found.head} bytes, text {found.text} bytes")
    by_method: dict[str, list[int]] = {}
    for part in found.parts:
        row = by_method.setdefault(part.method, [0, 0, 0])
        row[:] = row[0] + 1, row[1] + part.length, row[2] + part.packed
    for method, (count, made, packed) in sorted(by_method.items()):
        print(f"  {method}: {count} ranges, {made} bytes made of {packed}")
    print("the tensors that cost most:")
    for part in sorted(found.parts, key=lambda part: -part.packed)[:_TOP]:
        name = names.get(part.offset, f"at byte {part.offset}")
        print(
            f"  {name}: {part.length} bytes, {part.method}/{part.width * 8}"
            f" -> {part.packed} bytes, {100 * part.packed / total:.1f} % of the patch"
        )


def _target_of(source: BinaryIO) -> tuple[str, int]:
    """Return what the patch says it makes: here nobody signed another answer."""
    from modelfleet_manifests import delta

    found = delta.inspect(source.read)
    source.seek(0)
    return found.new_digest, found.new_size


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """Give the bytes of a file without reading them all."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            yield memoryview(b"")
            return
        # not closed here: numpy may still look at it; it goes with its last view
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _sides(
    old: Path, before: memoryview, new: Path, after: memoryview
) -> "SideTensors | None":
    """Return where the tensors of two files of external data lie; None for other files."""
    tensors = _side_tensors(old, before), _side_tensors(new, after)
    return tensors if all(tensors) else None


def _side_tensors(path: Path, data: memoryview) -> "tuple[Tensor, ...]":
    """Return the tensors of a file of external data, as a model beside it says."""
    from modelfleet_manifests import delta

    with contextlib.suppress(delta.WireError):
        delta.scan_side_files(data)
        return ()  # a model itself
    for model in sorted(path.absolute().parent.glob("*.onnx"))[:_MOST_MODELS]:
        with _mapped(model) as found, contextlib.suppress(delta.WireError):
            if tensors := delta.scan_side_files(found).get(path.name):
                return tensors
    return ()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file beside `path` that takes its name only if the block succeeds."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _refusing(*paths: Path) -> Iterator[None]:
    """Turn what can be wrong with these files into a message and exit code 4."""
    from modelfleet_manifests.delta import DeltaError, WrongBaseError

    try:
        yield
    except WrongBaseError as error:
        _refuse(
            f"{paths[0]} is not the file this patch was made from: it needs sha256"
            f" {error.expected}, found {error.found}. Give that file, or fetch NEW in full."
        )
    except DeltaError as error:
        patch = paths[-2] if len(paths) > 1 else paths[0]
        _refuse(f"{patch}: {error}. Fetch or make the patch again.")
    except OSError as error:
        name = error.filename or paths[0]
        _refuse(f"{name}: {error.strerror}. Check the path and its permissions.")


def _refuse(message: str) -> NoReturn:
    print(f"modelfleet delta: {message}", file=sys.stderr)
    raise typer.Exit(BAD_INPUT)
