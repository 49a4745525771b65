"""`revoke`: no device installs this any more; `pardon`: it may again."""

from typing import Annotated

import typer

from modelfleet_manifests.digests import is_digest
from modelfleet_server.cli.approval import ApproverKey, PassphraseFile, Pen, sign
from modelfleet_server.cli.reference import parse_reference
from modelfleet_server.cli.run import Run, Yes, command
from modelfleet_server.kit.errors import InvalidError


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    example = "revoke demo/digits@1.2.0 --reason 'wrong on drifted images'"
    command(app, example=example)(revoke)
    example = "pardon demo/digits@1.2.0 --reason 'the camera was at fault'"
    command(app, example=example)(pardon)


def revoke(
    run: Run,
    what: Annotated[
        str,
        typer.Argument(metavar="RELEASE|DIGEST", help="demo/digits@1.2.0, an id, a file."),
    ],
    reason: Annotated[str, typer.Option(help="Signed, and told to every device.")],
    stop: Annotated[
        bool, typer.Option("--stop", help="End it where it runs, too.")
    ] = False,
    unlisted: Annotated[
        bool, typer.Option("--unlisted", help="Take a digest that no release lists.")
    ] = False,
    approve: Annotated[
        bool, typer.Option("--approve/--propose", help="Sign it now, or only propose it.")
    ] = True,
    approver_key: ApproverKey = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
) -> None:
    """Revoke a release or a file for good: devices refuse to install it."""
    name = _identify(run, what)
    run.screen.confirm(f"Revoke {what}? Only officers can undo that.", yes=yes)
    body = {
        "name": name,
        "reason": reason,
        "effect": "stop" if stop else "revocation",
        "unlisted": unlisted,
    }
    proposal = run.client.post("/revocations", body)
    if not approve:
        next_ = f"Proposed: modelfleet approve {proposal['id']}"
        run.screen.show(proposal, lambda: run.screen.say(next_))
        return
    pen = Pen(approver_key, passphrase_file)
    done = {**sign(run, proposal["id"], pen, yes=True), "name": name}
    words = "is revoked" if not done["missing"] else "needs more signatures"
    run.screen.show(done, lambda: run.screen.say(f"{what} {words}."))


def pardon(
    run: Run,
    what: Annotated[
        str,
        typer.Argument(metavar="RELEASE|DIGEST", help="What was revoked or stopped."),
    ],
    reason: Annotated[str, typer.Option(help="Shown to everybody who signs.")],
    stop: Annotated[
        bool, typer.Option("--stop", help="Let it run again, if it was stopped.")
    ] = False,
    approve: Annotated[
        bool, typer.Option("--approve/--propose", help="Sign it now, or only propose it.")
    ] = True,
    approver_key: ApproverKey = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
) -> None:
    """Let a recall not count any more; only the officers' signatures do that."""
    body = {
        "name": _identify(run, what),
        "reason": reason,
        "effect": "stop" if stop else "revocation",
    }
    run.screen.confirm(f"Allow {what} again?", yes=yes)
    proposal = run.client.post("/pardons", body)
    if not approve:
        next_ = f"Proposed: modelfleet approve {proposal['id']}"
        run.screen.show(proposal, lambda: run.screen.say(next_))
        return
    done = sign(run, proposal["id"], Pen(approver_key, passphrase_file), yes=True)
    words = "is allowed again" if not done["missing"] else "needs more signatures"
    run.screen.show(done, lambda: run.screen.say(f"{what} {words}."))


def _identify(run: Run, what: str) -> str:
    if is_digest(what):
        return what
    release = str(run.client.get(parse_reference(what).path)["release"])
    if not release:
        raise InvalidError(f"{what} was never proposed", "Nothing could install it.")
    return release
