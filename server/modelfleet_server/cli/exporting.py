"""`variant export`: a variant as a bundle, for hardware that no agent runs on."""

import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from modelfleet_manifests.digests import sha256
from modelfleet_server.cli.client import Json
from modelfleet_server.cli.reference import Release, parse_reference
from modelfleet_server.cli.run import Run
from modelfleet_server.kit.errors import ConflictError, InvalidError

SUMS = "SHA256SUMS"
ABOUT = "variant.json"


def export(
    run: Run,
    release: Release,
    profile: Annotated[str, typer.Option(help="For which hardware.")] = "microcontroller",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.tar", help="[MODEL-VERSION-PROFILE.tar]")
    ] = None,
) -> None:
    """Write a variant of a release, with golden inputs and what is signed of it, as a tar.

    For hardware without an agent, where a model is compiled in: what is inside is checked
    against the digests of the release, and the same release gives the same bytes. Golden
    inputs and outputs are NumPy's npz; test what you compiled on them, within the
    tolerances that the variant states.
    """
    reference = parse_reference(release)
    one = run.client.get(reference.path)
    if one["state"] != "released":
        raise ConflictError(
            f"{release} is {one['state']}, and only what is signed is exported",
            "Approve it first: modelfleet approve.",
        )
    found = [it for it in one["variants"] if it["profile"] == profile]
    if not found:
        built = ", ".join(sorted(it["profile"] for it in one["variants"]))
        raise InvalidError(
            f"{release} has no variant for {profile!r}; it has {built}",
            f"Publish a version with --profile {profile}.",
        )
    short = reference.model.partition("/")[2]
    target = out or Path(f"{short}-{reference.version}-{profile}.tar")
    contents = _contents(run, one, found[0])
    _write(target, contents)
    told = {"file": str(target), "variant": found[0]["name"], "release": one["release"],
            "contents": sorted(contents)}  # fmt: skip
    run.screen.show(
        told, lambda: run.screen.say(f"{target}: {', '.join(sorted(contents))}.")
    )


def _contents(run: Run, one: Json, variant: Json) -> dict[str, bytes]:
    """Return the bundle's files by name, each checked."""
    files = [*variant["files"], variant["golden"]["file"]]
    held: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="modelfleet-export-") as folder:
        for file in files:
            path = Path(folder) / file["digest"]
            run.client.download(file["digest"], path)
            held[file["name"]] = _checked(path.read_bytes(), file["digest"], file["name"])
    about = {
        "model": one["model"],
        "version": one["version"],
        "release": one["release"],
        "inputs": one["inputs"],
        "outputs": one["outputs"],
        "variant": variant,
    }
    held[ABOUT] = json_bytes(about)
    sums = "".join(f"{sha256(data)}  {name}\n" for name, data in sorted(held.items()))
    return held | {SUMS: sums.encode()}


def _checked(data: bytes, digest: str, name: str) -> bytes:
    if sha256(data) != digest:
        raise InvalidError(
            f"{name}, as the server sent it, is not the file that the release names",
            "Do not use it; look at the server.",
        )
    return data


def json_bytes(value: Json) -> bytes:
    """Return readable JSON, the same bytes every time."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _write(target: Path, contents: dict[str, bytes]) -> None:
    """Write the tar beside its place and then move it there: never half of one."""
    half = target.with_name(f".{target.name}.half")
    try:
        with tarfile.open(half, "w", format=tarfile.USTAR_FORMAT) as archive:
            for name, data in sorted(contents.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                archive.addfile(entry, io.BytesIO(data))
        half.replace(target)
    except OSError as error:
        raise InvalidError(f"{target} cannot be written: {error.strerror}") from None
    finally:
        half.unlink(missing_ok=True)
