"""`variant`: build variants again on this machine and compare; see what was tried."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelfleet_manifests.digests import sha256_stream
from modelfleet_server.cli import words
from modelfleet_server.cli.client import CHUNK, Json, name
from modelfleet_server.cli.reference import Release, parse_reference
from modelfleet_server.cli.run import Run, command, subject
from modelfleet_server.kit.errors import InvalidError

if TYPE_CHECKING:
    from modelfleet_server.builds.domain import Verdict

Profiles = Annotated[
    list[str] | None, typer.Option("--profile", help="Only for it [all]; repeat.")
]
COLUMNS = ["profile", "candidate", "ships", "accuracy>", "latency>", "size>", "wire>",
           "verdict"]  # fmt: skip


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


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    variants = subject("What was made of a master for each class of hardware.")
    command(variants, "list", example="variant list demo/digits@1.0.0")(list_candidates)
    example = (
        "variant verify demo/digits@1.0.0\n"
        "variant verify demo/digits@1.0.0 --master digits.onnx --calibration cal.npz"
    )
    command(variants, "verify", example=example)(verify)
    example = (
        "variant override demo/digits@1.0.0 --profile arm64 --candidate int8 "
        '--reason "the plant accepts it until 1.1.0"'
    )
    command(variants, "override", example=example)(override)
    app.add_typer(variants, name="variant")


def list_candidates(run: Run, release: Release, profile: Profiles = None) -> None:
    """List what was tried for each profile, what ships, and why the others do not."""
    one = run.client.get(parse_reference(release).path)
    found = run.client.list("/builds", 0, version=one["id"])
    builds = [it for it in found.items if not profile or it["profile"] in profile]
    rows = [
        _row(build["profile"], candidate)
        for build in sorted(builds, key=lambda it: str(it["profile"]))
        for candidate in build["candidates"] or ()
    ]
    run.screen.show({"items": builds}, lambda: run.screen.table(COLUMNS, rows))


def verify(
    run: Run,
    release: Release,
    master: Annotated[
        Path | None, typer.Option(metavar="ONNX", help="Your own copy [the server's].")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="NPZ", help="Your own copy [the server's].")
    ] = None,
    profile: Profiles = None,
) -> None:
    """Build the variants of a release again, here, and compare every byte.

    Exit 0 where all are what their recipes make of the master, 4 where one is not.
    """
    one = run.client.get(parse_reference(release).path)
    wanted = [it for it in one["variants"] if not profile or it["profile"] in profile]
    if not wanted:
        raise InvalidError(f"{release} has no such variants", "See: release show.")
    with tempfile.TemporaryDirectory(prefix="modelfleet-verify-") as folder:
        bench = Bench(run, Path(folder), _held(one, wanted, master, calibration))
        verdicts = {it["name"]: _verify(bench, one["master"], it) for it in wanted}
    _tell(run, release, verdicts)


def override(
    run: Run,
    release: Release,
    profile: Annotated[str, typer.Option(help="Whose build the gate blocks.")],
    candidate: Annotated[str, typer.Option(help="What may pass, see: variant list.")],
    reason: Annotated[str, typer.Option(help="Kept in the audit log for good.")],
) -> None:
    """Let a variant pass the parity gate that blocks a release, and build it again.

    The variant says so in what is signed.
    """
    one = run.client.get(parse_reference(release).path)
    found = run.client.list("/builds", 0, version=one["id"])
    builds = [it["id"] for it in found.items if it["profile"] == profile]
    if not builds:
        raise InvalidError(f"{release} is not built for {profile!r}", "See: variant list.")
    wish = {"candidate": candidate, "reason": reason}
    again = run.client.post(f"/builds/{name(builds[0])}/override", wish)
    run.screen.show(
        again, lambda: run.screen.say(f"{candidate} passes; {profile} is built again.")
    )


def _held(
    one: Json, variants: list[Json], master: Path | None, calibration: Path | None
) -> dict[str, Path]:
    """Return the approver's own copies by digest, having looked at them."""
    held: dict[str, Path] = {}
    if master is not None:
        _check_digest(master, one["master"], f"the master {master}")
        held[one["master"]] = master
    digests = {it["calibration"] for it in variants} - {""}
    if calibration is not None:
        for digest in digests:
            _check_digest(calibration, digest, f"the calibration set {calibration}")
            held[digest] = calibration
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


def _verify(bench: Bench, master: str, variant: Json) -> "Verdict":
    from modelfleet_server.builds import children
    from modelfleet_server.builds.domain import VerifyJob
    from modelfleet_server.builds.recipes import plan_for

    bench.run.screen.note(f"building {variant['name']}")
    original = bench.file(master, "master")
    used = variant["calibration"]
    job = VerifyJob(
        master=str(original.absolute()),
        calibration=str(bench.file(used, "calibration set").absolute()) if used else None,
        variant=str(bench.file(variant["digest"], "variant")),
        profile=plan_for(variant["profile"]),
        name=variant["name"].removeprefix(f"{variant['profile']}-"),
        recipe=variant["recipe"],
        toolchain=variant["toolchain"],
    )
    return children.verify(job, children.limits_for(original.stat().st_size))


def _tell(run: Run, release: str, verdicts: dict[str, "Verdict"]) -> None:
    """Print the verdicts.

    Raises:
        InvalidError: A variant is not what its recipe makes.
    """
    wrong = {what: it for what, it in verdicts.items() if not it.same}
    if wrong:
        said = "; ".join(
            f"{what}: {', '.join(it.differences)}" for what, it in wrong.items()
        )
        raise InvalidError(
            f"{release} has variants that are not what their recipes make of the master: "
            f"{said}",
            "Do not approve it until you know why.",
            variants={what: list(it.differences) for what, it in wrong.items()},
        )
    document = {
        "release": release,
        "variants": {what: {"same": True, "digest": it.digest} for what, it in
                     verdicts.items()},
    }  # fmt: skip
    run.screen.show(
        document,
        lambda: run.screen.say(f"{', '.join(verdicts)}: built again, the same bytes."),
    )


def _row(profile: str, one: Json) -> list[object]:
    latency = one["latency_ms"]
    return [
        profile,
        one["name"],
        "yes" if one["chosen"] else "",
        one["accuracy"] and f"{one['accuracy']:.4f}",
        latency and f"{latency:.3f} ms",
        one["size"] and words.size(one["size"]),
        one["wire"] and words.size(one["wire"]),
        one["verdict"],
    ]
