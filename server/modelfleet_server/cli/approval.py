"""`approve` and `proposal`: see in words what changes, sign it with keys that stay here."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from modelfleet_manifests.digests import sha256
from modelfleet_server.cli import words
from modelfleet_server.cli.client import name
from modelfleet_server.cli.rebuilding import Calibration, Master, Own, rebuild
from modelfleet_server.cli.run import Limit, Run, Yes, command, subject
from modelfleet_server.cli.secrets import find_passphrase
from modelfleet_server.kit.errors import InvalidError
from modelfleet_server.settings import DEFAULT_HOME

if TYPE_CHECKING:
    from modelfleet_manifests.release import Release
    from modelfleet_server.trust.approving import ProposalCopy
    from modelfleet_server.trust.domain import RoleSignature

DEFAULT_LIMIT = 100
UNUSUAL = (
    "CHANGES", "LOWERS", "REMOVES", "FORBIDS", "ALLOWS AGAIN", "STOPS", "NOT REPRODUCED",
)  # fmt: skip
"""How sentences begin that each need a yes of their own."""
Json = dict[str, Any]

ApproverKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The approver's keys [env MODELFLEET_APPROVER_KEY, ./fleet/approver.key].",
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Opens them [env MODELFLEET_PASSPHRASE]."),
]
ProposalId = Annotated[
    str, typer.Argument(metavar="PROPOSAL", help="Its id, or how it begins.")
]


class Pen(NamedTuple):
    """What signs: a key file, and what opens it (None: environment, or ask)."""

    key: Path | None
    passphrase: Path | None

    def path(self, environ: Mapping[str, str]) -> Path:
        """Return where the key file is."""
        if self.key is not None:
            return self.key
        if named := environ.get("MODELFLEET_APPROVER_KEY"):
            return Path(named)
        return Path(environ.get("MODELFLEET_HOME") or DEFAULT_HOME) / "approver.key"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    example = "approve 6f0c12 --master digits.onnx --calibration digits.npz"
    command(app, example=example)(approve)
    proposals = subject("What waits for signatures, and what was signed.")
    command(proposals, "list", example="proposal list --state open")(list_proposals)
    command(proposals, "show", example="proposal show 6f0c…")(show)
    example = "proposal renew\nproposal renew revocations stops"
    command(proposals, "renew", example=example)(renew)
    command(proposals, "expiry", example="proposal expiry")(expiry)
    command(proposals, "withdraw", example="proposal withdraw 6f0c… --yes")(withdraw)
    app.add_typer(proposals, name="proposal")


def approve(
    run: Run,
    proposal: ProposalId,
    master: Master = None,
    calibration: Calibration = None,
    approver_key: ApproverKey = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
) -> None:
    """Show in words what a proposal changes, build its variants again, and sign it.

    The variants of a release are built here from the master and compared with what the
    release says of them, unless it says that they are waived. The keys are read here and
    never leave this process; only signatures are sent.
    """
    pen = Pen(approver_key, passphrase_file)
    done = sign(run, proposal, pen, yes=yes, own=Own(master, calibration))

    def tell() -> None:
        run.screen.say(f"Signed {len(done['signed'])} roles of {done['proposal']}.")
        if done["missing"]:
            run.screen.say(f"{done['missing']} more signatures are needed.")
        else:
            run.screen.say("It has all its signatures and is published.")

    run.screen.show(done, tell)


def sign(
    run: Run, proposal_id: str, pen: Pen, *, yes: bool, own: Own | None = None
) -> Json:
    """Describe a proposal, ask, sign it and send the signatures.

    Args:
        run: Asks server and person.
        proposal_id: Or how it begins.
        pen: What signs.
        yes: The person agreed beforehand.
        own: The approver's own copies of master and calibration set.

    Returns:
        proposal, state, changes (sentences), signed (role and key), missing signatures.

    Raises:
        DeclinedError: The person said no.
        RefusedError: It must not be signed, or the server's metadata does not verify.
        NotReproducedError: A variant is not what the release says.
    """
    from modelfleet_server.trust import approving, findings, witness
    from modelfleet_server.trust.outside import open_any, read_any

    path = pen.path(os.environ)
    fleet = read_any(path).fleet
    detail = run.client.get(f"/proposals/{name(proposal_id)}")
    copy = approving.read_proposal(detail)
    in_force = approving.fetch_in_force(run.client.metadata, fleet, copy.roles)
    witness.check(witness.path_of(path), fleet, in_force)
    changes = approving.describe(copy, in_force)
    releases = list(findings.claims_of(copy))
    changes += [line for one in releases for line in _reproduce(run, one, own or Own())]
    run.screen.note(f"The proposal {copy.id} of fleet {fleet[:12]}… changes:")
    for line in changes:
        run.screen.note(f"  {line}")
    for role, payload in copy.roles.items():
        run.screen.note(f"  to sign: {role}, sha256 {sha256(payload)}")
    ask(run, changes, releases, yes=yes)
    keys = open_any(path, lambda: find_passphrase(pen.passphrase))
    if keys.fleet != fleet:
        raise InvalidError(f"{path} was changed while it was read", "Try again.")
    for one in releases:
        findings.check_waiver(copy, in_force, keys, one)
    signatures = approving.sign(copy, keys, in_force)
    return _send(run, copy, changes, signatures)


def _reproduce(run: Run, release: "Release", own: Own) -> list[str]:
    from modelfleet_server.trust import findings

    claims = findings.to_rebuild(release)
    found = rebuild(run, release.master.digest, claims, own) if claims else {}
    return findings.judge(release, found)


def ask(run: Run, changes: list[str], releases: Sequence["Release"], *, yes: bool) -> None:
    """Ask for each thing that is not usual by itself, then for all of it.

    A release is agreed to by typing its name and version.

    Raises:
        DeclinedError: The person did not agree.
        InvalidError: There is nobody to ask.
    """
    for line in changes:
        if line.startswith(UNUSUAL):
            run.screen.confirm(f"{line} Is that meant?", yes=yes)
    for one in releases:
        run.screen.confirm_word(f"{one.model} {one.version}", yes=yes)
    if not releases:
        run.screen.confirm("Sign this?", yes=yes)


def _send(
    run: Run,
    copy: "ProposalCopy",
    changes: list[str],
    signatures: Sequence["RoleSignature"],
) -> Json:
    body = {
        "signatures": [
            {"role": one.role, "key_id": one.key_id, "signature": one.signature}
            for one in signatures
        ]
    }
    after = run.client.post(f"/proposals/{name(copy.id)}/signatures", body)
    return {
        "proposal": copy.id,
        "title": copy.title,
        "state": after["state"],
        "changes": changes,
        "signed": [{"role": one.role, "key_id": one.key_id} for one in signatures],
        "missing": sum(one["missing"] for one in after["roles"]),
    }


def list_proposals(
    run: Run,
    state: Annotated[str | None, typer.Option(help="open, published or withdrawn.")] = None,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List proposals, newest first."""
    found = run.client.list("/proposals", limit, state=state)
    rows = [
        [
            one["id"],
            one["kind"],
            one["state"],
            one["title"],
            one["proposed_by"],
            words.moment(one["created_ms"]),
        ]
        for one in found.items
    ]
    run.show_list(found, ["id", "kind", "state", "title", "by", "when"], rows)


def show(run: Run, proposal: ProposalId) -> None:
    """Show a proposal: its roles, and whose signatures are missing."""
    one = run.client.get(f"/proposals/{name(proposal)}")

    def tell() -> None:
        run.screen.facts(
            [
                ("proposal", one["id"]),
                ("title", one["title"]),
                ("state", one["state"]),
                ("by", one["proposed_by"]),
                ("when", words.moment(one["created_ms"])),
            ]
        )
        rows = [
            [it["role"], it["version"], it["threshold"], len(it["signed"]), it["missing"]]
            for it in one["roles"]
        ]
        columns = ["role", "version>", "needs>", "signed>", "missing>"]
        run.screen.table(columns, rows)

    run.screen.show(one, tell)


def withdraw(run: Run, proposal: ProposalId, yes: Yes = False) -> None:
    """Close a proposal unpublished."""
    run.screen.confirm(f"Withdraw {proposal}?", yes=yes)
    one = run.client.post(f"/proposals/{name(proposal)}/withdraw")
    run.screen.show(one, lambda: run.screen.say(f"Withdrawn: {one['title']}."))


def renew(
    run: Run,
    role: Annotated[
        list[str] | None,
        typer.Argument(metavar="ROLE...", help="[all that end soon]"),
    ] = None,
) -> None:
    """Propose roles as they are with a new life; the server does so 14 days before."""
    roles = role or [
        one["role"]
        for one in run.client.get("/trust")["roles"]
        if one["ends_soon"] and one["role"] not in {"root", "snapshot", "timestamp"}
    ]
    if not roles:
        raise InvalidError("no role ends soon", "Name some: modelfleet proposal expiry.")
    one = run.client.post("/renewals", {"roles": roles})
    run.screen.show(one, lambda: run.screen.say(f"Sign: modelfleet approve {one['id']}"))


def expiry(run: Run) -> None:
    """Show when each role ends. Exit 3 where one ends soon, for a scheduler."""
    found = run.client.get("/trust")
    rows = [
        [one["role"], one["version"], words.moment(one["expires_ms"]),
         "soon" if one["ends_soon"] else ""]
        for one in found["roles"]
    ]  # fmt: skip
    columns = ["role", "version>", "ends", ""]
    run.screen.show(found, lambda: run.screen.table(columns, rows))
    if any(one["ends_soon"] for one in found["roles"]):
        raise typer.Exit(3)
