"""`variant`: build variants again on this machine and compare; see what was tried."""

from typing import Annotated

import typer

from modelfleet_server.cli import words
from modelfleet_server.cli.client import Json, name
from modelfleet_server.cli.exporting import export
from modelfleet_server.cli.rebuilding import (
    Calibration,
    Master,
    Own,
    read_claim,
    rebuild,
)
from modelfleet_server.cli.reference import Release, parse_reference
from modelfleet_server.cli.run import Limit, Run, command, subject
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.trust.domain import Finding

Profiles = Annotated[
    list[str] | None, typer.Option("--profile", help="Only for it [all]; repeat.")
]
SHOWN = ["profile", "device", "state", "accuracy>", "master>", "p50>", "p99>", "memory>",
         "why"]  # fmt: skip
DEFAULT_LIMIT = 100
COLUMNS = ["profile", "candidate", "", "accuracy>", "latency>", "size>", "memory>", "wire>",
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
    command(variants, "evidence", example="variant evidence demo/digits@1.0.0")(evidence)
    example = "variant export demo/digits@1.0.0 --out digits.tar"
    command(variants, "export", example=example)(export)
    app.add_typer(variants, name="variant")


def list_candidates(run: Run, release: Release, profile: Profiles = None) -> None:
    """List what was tried for each profile, what ships, and why the others do not.

    `best in something`: no other candidate is at least as accurate, fast, small and frugal.
    """
    one = run.client.get(parse_reference(release).path)
    found = run.client.list("/builds", 0, version=one["id"])
    builds = [it for it in found.items if not profile or it["profile"] in profile]
    rows = [
        _row(build["profile"], candidate)
        for build in sorted(builds, key=lambda it: str(it["profile"]))
        for candidate in build["candidates"] or ()
    ]
    run.screen.show({"items": builds}, lambda: run.screen.table(COLUMNS, rows))


def evidence(
    run: Run, release: Release, profile: Profiles = None, limit: Limit = DEFAULT_LIMIT
) -> None:
    """List what reference devices measured, and how good their answers were."""
    one = run.client.get(parse_reference(release).path)
    builds = run.client.list("/builds", 0, version=one["id"]).items
    wanted = [it for it in builds if not profile or it["profile"] in profile]
    items = [
        {"profile": build["profile"], **it}
        for build in sorted(wanted, key=lambda it: str(it["profile"]))
        for it in run.client.list("/evaluations", limit, build=build["id"]).items
    ]
    rows = [_evidence_row(it) for it in items]
    run.screen.show({"items": items}, lambda: run.screen.table(SHOWN, rows))


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


def _evidence_row(one: Json) -> list[object]:
    return [
        one["profile"],
        one["device"],
        one["state"],
        one["accuracy"] is not None and f"{one['accuracy']:.4f}",
        one["master_accuracy"] is not None and f"{one['master_accuracy']:.4f}",
        one["p50_us"] is not None and f"{one['p50_us'] / 1000:.3f} ms",
        one["p99_us"] is not None and f"{one['p99_us'] / 1000:.3f} ms",
        one["memory_kb"] is not None and words.size(one["memory_kb"] * 1024),
        one["reason"],
    ]


def _row(profile: str, one: Json) -> list[object]:
    latency = one["latency_ms"]
    return [
        profile,
        one["name"],
        "ships" if one["chosen"] else "best in something" if one["best"] else "",
        one["accuracy"] and f"{one['accuracy']:.4f}",
        latency and f"{latency:.3f} ms",
        one["size"] and words.size(one["size"]),
        one["memory_mb"] is not None and words.size(int(one["memory_mb"] * (1 << 20))),
        one["wire"] and words.size(one["wire"]),
        one["verdict"],
    ]
