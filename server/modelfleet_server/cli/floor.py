"""`floor`: the lowest version of a model that devices may install."""

from typing import Annotated

import typer

from modelfleet_manifests.names import split_model
from modelfleet_server.cli.approval import ApproverKey, PassphraseFile, Pen, sign
from modelfleet_server.cli.run import Run, Yes, command

NONE = "none"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    example = "floor demo/digits 1.2.0 --reason 'older ones leak memory'"
    command(app, example=example)(floor)


def floor(
    run: Run,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="demo/digits")],
    version: Annotated[str, typer.Argument(metavar="VERSION|none", help="1.2.0, or none.")],
    reason: Annotated[str, typer.Option(help="Shown to everybody who signs.")],
    approve: Annotated[
        bool, typer.Option("--approve/--propose", help="Sign it now, or only propose it.")
    ] = True,
    approver_key: ApproverKey = None,
    passphrase_file: PassphraseFile = None,
    yes: Yes = False,
) -> None:
    """Let no device install a version below this one; where one runs it goes on."""
    split_model(model)
    wanted = None if version == NONE else version
    run.screen.confirm(f"Set the floor of {model} to {version}?", yes=yes)
    body = {"model": model, "floor": wanted, "reason": reason}
    proposal = run.client.post("/floors", body)
    if not approve:
        next_ = f"Proposed: modelfleet approve {proposal['id']}"
        run.screen.show(proposal, lambda: run.screen.say(next_))
        return
    told = sign(run, proposal["id"], Pen(approver_key, passphrase_file), yes=yes)
    words = f"is {version}" if not told["missing"] else "needs more signatures"
    run.screen.show(told, lambda: run.screen.say(f"The floor of {model} {words}."))
