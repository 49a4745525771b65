"""`variant`: build variants again on this machine and compare; see what was tried."""

from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.client import Json, name
from modelfleet_server.cli.rebuilding import (
    Calibration,
    Master,
    Own,
    read_claim,
    rebuild,
)
from modelfleet_server.cli.reference import Release, parse_reference
from modelfleet_server.cli.run import Run, command, subject
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust.findings import Finding

Profiles = Annotated[
    list[str] | None, typer.Option("--profile", help="Only for it [all]; repeat.")
]
COLUMNS = ["profile", "candidate", "ships", "accuracy>", "latency>", "size>", "wire>",
           "verdict"]  # fmt: skip


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
    master: Master = None,
    calibration: Calibration = None,
    profile: Profiles = None,
) -> None:
    """Build the variants of a release again, here, and compare every byte.

    Exit 0 where all are what their recipes make of the master, or are audited: the same
    graph, and every number rounds to it. 4 where one is not.
    """
    one = run.client.get(parse_reference(release).path)
    wanted = [it for it in one["variants"] if not profile or it["profile"] in profile]
    if not wanted:
        raise InvalidError(f"{release} has no such variants", "See: release show.")
    claims = [read_claim(it) for it in wanted]
    own = Own(master, calibration)
    _tell(run, release, rebuild(run, one["master"], claims, own))


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


def _tell(run: Run, release: str, found: dict[str, Finding]) -> None:
    """Print what was found.

    Raises:
        InvalidError: A variant is not what its recipe makes.
    """
    wrong = {what: it for what, it in found.items() if not it.word}
    if wrong:
        said = "; ".join(f"{what}: {', '.join(it.reasons)}" for what, it in wrong.items())
        raise InvalidError(
            f"{release} has variants that are not what their recipes make of the master: "
            f"{said}",
            "Do not approve it until you know why.",
            variants={what: list(it.reasons) for what, it in wrong.items()},
        )
    variants = {
        what: {"found": it.word, "differences": list(it.reasons)}
        for what, it in found.items()
    }

    def tell() -> None:
        for what, it in found.items():
            same = "the same bytes" if it.word == "rebuilt" else "audited"
            run.screen.say(f"{what}: built again, {same}.")

    run.screen.show({"release": release, "variants": variants}, tell)


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
