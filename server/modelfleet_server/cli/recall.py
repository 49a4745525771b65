"""`revoke`: no device installs this any more; `stop`: nor does it run; `pardon`: it may."""

from typing import Annotated, Any, NamedTuple

import typer

from modelfleet_manifests.digests import is_digest
from modelfleet_manifests.recalls import is_range, parse_range
from modelfleet_server.cli.approval import ApproverKey, PassphraseFile, Pen, sign
from modelfleet_server.cli.reference import parse_reference
from modelfleet_server.cli.run import Run, Yes, command
from modelfleet_server.kit.errors import InvalidError

What = Annotated[
    str,
    typer.Argument(
        metavar="RELEASE|RANGE|DIGEST",
        help="demo/digits@1.2.0, 'demo/digits@>=1.0.0,<1.2.0', an id, a file.",
    ),
]
Reason = Annotated[str, typer.Option(help="Signed, and told to every device.")]
Files = Annotated[
    bool, typer.Option("--files", help="The release's files too, wherever they are listed.")
]
Unlisted = Annotated[
    bool,
    typer.Option("--unlisted", help="Take a digest or range that no release belongs to."),
]
Approve = Annotated[
    bool, typer.Option("--approve/--propose", help="Sign it now, or only propose it.")
]


class _Wish(NamedTuple):
    """What is asked for, and what signs it; None only proposes."""

    what: str
    path: str
    body: dict[str, Any]
    pen: Pen | None


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    example = "revoke demo/digits@1.2.0 --reason 'wrong on drifted images'"
    command(app, example=example)(revoke)
    example = "stop 'demo/digits@>=1.0.0,<1.2.0' --reason 'crashes on empty images'"
    command(app, example=example)(stop)
    example = "pardon demo/digits@1.2.0 --reason 'the camera was at fault'"
    command(app, example=example)(pardon)


def revoke(
    run: Run,
    what: What,
    reason: Reason,
    files: Files = False,
    unlisted: Unlisted = False,
    approve: Approve = True,
    approver_key: ApproverKey = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
) -> None:
    """Revoke for good: devices refuse to install it; where it runs it goes on."""
    body = {"reason": reason, "effect": "revocation", "files": files, "unlisted": unlisted}
    pen = Pen(approver_key, passphrase_file) if approve else None
    run.screen.confirm(f"Revoke {what}? Only officers can undo that.", yes=yes)
    _carry_out(run, _Wish(what, "/revocations", body, pen), "is revoked")


def stop(
    run: Run,
    what: What,
    reason: Reason,
    files: Files = False,
    unlisted: Unlisted = False,
    approve: Approve = True,
    approver_key: ApproverKey = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
) -> None:
    """Stop for good: it ends at once where it runs, and is not installed any more."""
    body = {"reason": reason, "effect": "stop", "files": files, "unlisted": unlisted}
    pen = Pen(approver_key, passphrase_file) if approve else None
    run.screen.confirm(
        f"End {what} on every device now? Only officers can undo that.", yes=yes
    )
    _carry_out(run, _Wish(what, "/revocations", body, pen), "is stopped")


def pardon(
    run: Run,
    what: What,
    reason: Annotated[str, typer.Option(help="Shown to everybody who signs.")],
    stop: Annotated[
        bool, typer.Option("--stop", help="Let it run again, if it was stopped.")
    ] = False,
    files: Files = False,
    approve: Approve = True,
    approver_key: ApproverKey = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
) -> None:
    """Let a recall not count any more; only the officers' signatures do that."""
    effect = "stop" if stop else "revocation"
    body = {"reason": reason, "effect": effect, "files": files}
    pen = Pen(approver_key, passphrase_file) if approve else None
    run.screen.confirm(f"Allow {what} again?", yes=yes)
    _carry_out(run, _Wish(what, "/pardons", body, pen), "is allowed again")


def _carry_out(run: Run, wish: _Wish, done: str) -> None:
    """Propose it, sign it where it is to be signed now, and say how far it is."""
    name = _identify(run, wish.what)
    proposal = run.client.post(wish.path, {"name": name, **wish.body})
    if wish.pen is None:
        next_ = f"Proposed: modelfleet approve {proposal['id']}"
        run.screen.show(proposal, lambda: run.screen.say(next_))
        return
    told = {**sign(run, proposal["id"], wish.pen, yes=True), "name": name}
    words = done if not told["missing"] else "needs more signatures"
    run.screen.show(told, lambda: run.screen.say(f"{wish.what} {words}."))


def _identify(run: Run, what: str) -> str:
    if is_digest(what):
        return what
    if is_range(what):
        return str(parse_range(what))
    release = str(run.client.get(parse_reference(what).path)["release"])
    if not release:
        raise InvalidError(f"{what} was never proposed", "Nothing could install it.")
    return release
