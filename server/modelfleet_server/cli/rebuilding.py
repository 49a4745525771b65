"""Builds variants again on this machine, from the approver's own copies where given."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from modelfleet_manifests.digests import sha256_stream
from modelfleet_manifests.release import Variant
from modelfleet_server.cli.client import CHUNK, Json
from modelfleet_server.cli.run import Run
from modelfleet_server.kit.errors import AppError, InvalidError
from modelfleet_server.trust.domain import Finding

if TYPE_CHECKING:
    from modelfleet_manifests.profiles.definition import Profile

Master = Annotated[
    Path | None, typer.Option(metavar="ONNX", help="Your own copy [the server's].")
]
Calibration = Annotated[
    Path | None, typer.Option(metavar="NPZ", help="Your own copy [the server's].")
]


class Own(NamedTuple):
    """The approver's own copies; None fetches what the server has."""

    master: Path | None = None
    calibration: Path | None = None


@dataclass(frozen=True)
class Bench:
    """What variants are built from again: files on this machine, by their digests."""

    run: Run
    folder: Path
    held: dict[str, Path]

    def file(self, digest: str, what: str) -> Path:
        """Return the file of a digest, from the server where it is not held.

        Raises:
            InvalidError: What the server sent has another digest.
        """
        if digest in self.held:
            return self.held[digest]
        path = self.folder / digest
        if not path.exists():
            self.run.screen.note(f"fetching the {what}")
            self.run.client.download(digest, path)
            _check_digest(path, digest, f"the {what} that the server sent")
        return path


def read_claim(value: Json) -> Variant:
    """Return a variant as the API tells it."""
    told = {key: one for key, one in value.items() if key != "digest"}
    return msgspec.convert(told, Variant)


def rebuild(
    run: Run, master: str, claims: Sequence[Variant], own: Own
) -> dict[str, Finding]:
    """Build variants again and say of each, by name, what was found.

    Args:
        run: Fetches what is not at hand.
        master: Digest of the full-precision model.
        claims: As the release states them.
        own: What the approver has.

    Raises:
        InvalidError: A copy is not what the release names.
    """
    with tempfile.TemporaryDirectory(prefix="modelfleet-verify-") as folder:
        bench = Bench(run, Path(folder), _hold(master, claims, own))
        return {one.name: _find(bench, master, one) for one in claims}


def _hold(master: str, claims: Sequence[Variant], own: Own) -> dict[str, Path]:
    """Return the approver's own copies by digest, having looked at them."""
    held: dict[str, Path] = {}
    if own.master is not None:
        _check_digest(own.master, master, f"the master {own.master}")
        held[master] = own.master
    if own.calibration is not None:
        for digest in {one.calibration for one in claims} - {""}:
            _check_digest(own.calibration, digest, f"the calibration set {own.calibration}")
            held[digest] = own.calibration
    return held


def _check_digest(path: Path, digest: str, what: str) -> None:
    try:
        with path.open("rb") as file:
            found, _ = sha256_stream(iter(lambda: file.read(CHUNK), b""))
    except OSError as error:
        raise InvalidError(f"{what} cannot be read: {error.strerror}") from None
    if found != digest:
        raise InvalidError(
            f"{what} is not the one that the release names",
            f"The release names {digest}, this is {found}.",
        )


def profile_here(name: str) -> "Profile":
    """Return a profile: a shipped one, or the approver's own in `HOME/profiles`.

    Raises:
        UnknownProfileError: There is none of this name on this machine.
        ProfileError: A file there is no profile.
    """
    from modelfleet_server.builds.profiles import find_profile, load_profiles
    from modelfleet_server.settings import load_settings

    home = load_settings(environ=os.environ).home
    return find_profile(name, load_profiles(home / "profiles"))


def _find(bench: Bench, master: str, claim: Variant) -> Finding:
    from modelfleet_server.builds import children
    from modelfleet_server.builds.messages import VerifyJob

    bench.run.screen.note(f"building {claim.name}")
    original = bench.file(master, "master")
    used = claim.calibration
    calibration = bench.file(used, "calibration set") if used else None
    if len({file.name for file in claim.files}) != len(claim.files):
        return Finding("", ("two of its files have one name",))
    folder = bench.folder / claim.name
    folder.mkdir()
    for file in claim.files:
        # under its own name, copied: a graph may not reach its weights by a link
        copyfile(bench.file(file.digest, "variant"), folder / file.name)
    graph, *beside = (file.name for file in claim.files)
    try:
        job = VerifyJob(
            master=str(original.absolute()),
            calibration=None if calibration is None else str(calibration.absolute()),
            variant=str(folder / graph),
            beside=beside,
            profile=profile_here(claim.profile),
            name=claim.name.removeprefix(f"{claim.profile}-"),
            recipe=claim.recipe,
            toolchain=claim.toolchain,
        )
        verdict = children.verify(job, children.limits_for(original.stat().st_size))
    except AppError as error:
        return Finding("", (error.what,))
    if verdict.same:
        return Finding("rebuilt", ())
    if verdict.audited:
        return Finding("audited", tuple(verdict.differences))
    return Finding("", (*verdict.differences, *verdict.against))
