"""`publish`: a master at the door, up to the server, built, proposed, perhaps signed."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from modelfleet_manifests.digests import sha256_stream
from modelfleet_manifests.names import check_name
from modelfleet_manifests.semver import Version
from modelfleet_server.cli import material as files
from modelfleet_server.cli.approval import ApproverKey, PassphraseFile, Pen, sign
from modelfleet_server.cli.client import CHUNK, Json, name
from modelfleet_server.cli.exits import NotYetError
from modelfleet_server.cli.material import Material
from modelfleet_server.cli.rebuilding import Own
from modelfleet_server.cli.reference import Reference, check_reference
from modelfleet_server.cli.releases import tell_variants
from modelfleet_server.cli.run import Run, Yes, command
from modelfleet_server.kit.errors import ConflictError, InvalidError

POLL_S = 0.2
OPEN = {"queued", "running", "awaiting"}


class Choice(NamedTuple):
    """What is chosen for a version; None leaves it to the server."""

    slots: Sequence[str] | None
    profiles: Sequence[str] | None
    rollback_to: Sequence[str] | None
    vouched: dict[str, str] | None


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    example = (
        "publish digits.onnx --model demo/digits --version 1.0.0 --eval eval.npz\n"
        "publish digits.onnx --check"
    )
    command(app, example=example)(publish)


def publish(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The master.")],
    model: Annotated[
        str | None, typer.Option(metavar="NS/NAME", help="What it is called.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="X.Y.Z", help="Semantic, a new one.")
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option("--eval", metavar="NPZ", help="Inputs, and labels as y."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(metavar="NPZ", help="Inputs to quantize by.")
    ] = None,
    lineage: Annotated[
        Path | None,
        typer.Option(metavar="JSON", help="Its origin [MODEL.lineage.json beside it]."),
    ] = None,
    slot: Annotated[
        list[str] | None, typer.Option(help="May hold it [the model's name]; repeat.")
    ] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="Build for it [all]; repeat.")
    ] = None,
    rollback_to: Annotated[
        list[str] | None,
        typer.Option(metavar="X.Y.Z", help="Devices may return to it [all]; repeat."),
    ] = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="Sign it too, as `approve` does.")
    ] = False,
    waive: Annotated[
        bool,
        typer.Option("--waive", help="Approvers do not build the variants again."),
    ] = False,
    approver_key: ApproverKey = None,
    passphrase_file: PassphraseFile = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only look at what is named; ask no server."),
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait until the variants are built.")] = True,
    yes: Yes = False,
) -> None:
    """Publish a model: check it, upload it, build its variants, propose it.

    The files are checked on this machine before anything is sent: at the door, and by a
    first run, within a minute and in a few times the model's size of memory. All but
    --check needs --model, --version and --eval. With --waive the release says of its
    variants that nobody reproduced them.
    """
    if check and model is None and version is None:
        _check_only(run, file, evaluation, calibration)
        return
    if approve and not wait:
        raise InvalidError("--approve has to wait for the builds", "Leave out --no-wait.")
    reference = _require_reference(model, version, evaluation)
    vouched = {"*": "waived"} if waive else None
    choice = Choice(slot or None, profile or None, rollback_to or None, vouched)
    _check_choice(choice)
    made = _make(run, reference, Material(file, evaluation, calibration, lineage),
                 choice, check=check)  # fmt: skip
    if made is None:
        return
    if not wait:
        run.screen.show(made, lambda: run.screen.say(f"{model}@{version} is being built."))
        return
    _follow_builds(run, made["id"])
    built = run.client.get(reference.path)
    _require_built(built)
    if not run.screen.as_json:
        tell_variants(run.screen, built["variants"])
    if approve:
        if not built["proposal"]:
            raise NotYetError(built["reason"], "Close that one, then approve this.")
        # a model with external data was packed: then the server's copy is checked
        own = Own(file if _is(file, built["master"]) else None, calibration)
        sign(run, built["proposal"], Pen(approver_key, passphrase_file), yes=yes, own=own)
        built = run.client.get(reference.path)
    _finish(run, built)


def _is(file: Path, digest: str) -> bool:
    with file.open("rb") as opened:
        return sha256_stream(iter(lambda: opened.read(CHUNK), b""))[0] == digest


def _require_reference(
    model: str | None, version: str | None, evaluation: Path | None
) -> Reference:
    if model is None or version is None or evaluation is None:
        raise typer.BadParameter("publish needs --model, --version and --eval.")
    return check_reference(model, version)


def _check_only(
    run: Run, file: Path, evaluation: Path | None, calibration: Path | None
) -> None:
    with tempfile.TemporaryDirectory(prefix="modelfleet-check-") as folder:
        them = Material(file, evaluation, calibration, None)
        facts, _ = files.inspect(them, Path(folder))
    files.tell_facts(run.screen, file, facts)


def _make(
    run: Run, reference: Reference, material: Material, choice: Choice, *, check: bool
) -> Json | None:
    """Check, upload and create; return the new version, None where only to be checked."""
    with tempfile.TemporaryDirectory(prefix="modelfleet-publish-") as folder:
        run.screen.note(f"checking {material.model.name}")
        facts, master = files.inspect(material, Path(folder))
        lineage = files.read_lineage(material.lineage_path)
        if check:
            files.tell_facts(run.screen, material.model, facts)
            return None
        _check_new(run, reference)
        parts = {"evaluation": material.evaluation, "calibration": material.calibration}
        to_send = {"master": master} | {k: v for k, v in parts.items() if v is not None}
        digests = files.upload(run.client, run.screen, to_send)
    namespace, _, short = reference.model.partition("/")
    body: Json = {"version": reference.version, "lineage": lineage, **digests}
    body |= {key: them for key, them in choice._asdict().items() if them is not None}
    return run.client.post(f"/models/{name(namespace)}/{name(short)}/versions", body)


def _check_choice(choice: Choice) -> None:
    # the server may know more profiles and slots than this machine: only their form
    for profile in choice.profiles or ():
        check_name(profile, "profile")
    for slot in choice.slots or ():
        check_name(slot, "slot")
    for version in choice.rollback_to or ():
        Version(version)


def _check_new(run: Run, reference: Reference) -> None:
    """Ask before anything is uploaded."""
    held = run.client.find(reference.path)
    if held is not None:
        raise ConflictError(
            f"{reference.model} {reference.version} is there already, and it is "
            f"{held['state']}",
            "Versions never change: publish a higher one.",
            version=held["id"],
        )


def _follow_builds(run: Run, version_id: str) -> None:
    """Wait until no build of a version is open, with a bar for each."""
    told: set[str] = set()
    with run.screen.progress() as bars:
        while True:
            builds = run.client.list("/builds", 0, version=version_id).items
            for one in sorted(builds, key=lambda it: str(it["profile"])):
                over = one["state"] not in OPEN
                done = one["of"] or 1 if over else one["done"]
                step = one["step"]
                if over:
                    step = one["state"]
                elif one["state"] == "awaiting":
                    step = "waits for reference devices"
                bars.set(f"build {one['profile']}", done, one["of"] or 1, step)
                if over and one["id"] not in told:
                    told.add(one["id"])
                    why = one["why"] or one["reason"]
                    run.screen.note(f"{one['profile']}: {one['state']}, {why}")
            if builds and not any(one["state"] in OPEN for one in builds):
                return
            time.sleep(POLL_S)


def _require_built(built: Json) -> None:
    if built["state"] == "failed":
        name_ = f"{built['model']}@{built['version']}"
        raise InvalidError(
            f"{name_} could not be built: {built['reason']}",
            f"Correct what it names; again with: modelfleet release retry {name_}.",
            version=built["id"],
        )


def _tell_fit(run: Run, built: Json) -> None:
    """Say what changed that the version's number does not say."""
    fit = built["fit"]
    if fit["level"] == "misfit":
        run.screen.note(f"{built['version']} is no fitting number after {fit['against']}:")
    for one in fit["changes"]:
        run.screen.note(f"{one['level']}: {one['why']}")


def _finish(run: Run, built: Json) -> None:
    """Say how far it got."""
    _tell_fit(run, built)
    name_ = f"{built['model']}@{built['version']}"
    next_ = {
        "released": f"{name_} is released: devices may be told to run it.",
        "proposed": f"{name_} waits for signatures: modelfleet approve {built['proposal']}",
    }.get(built["state"], f"{name_} is {built['state']}: {built['reason']}")
    run.screen.show(built, lambda: run.screen.say(next_))
    if built["state"] == "built":
        raise typer.Exit(3)
