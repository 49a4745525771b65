"""`key`: people's key files, and who signs what from now on."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from modelfleet_server.cli.home import Home
from modelfleet_server.cli.run import Run, Yes, command, subject
from modelfleet_server.cli.secrets import find_passphrase
from modelfleet_server.kit.errors import InvalidError

Json = dict[str, Any]
Reason = Annotated[str, typer.Option(help="Shown to everybody who signs.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Seals the keys [env MODELFLEET_PASSPHRASE]."),
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    keys = subject("People's key files, and who signs what.")
    example = "key new ann.key --fleet 3f2a…"
    command(keys, "new", example=example, asks=False)(new)
    example = "key link ann.json --fleet 3f2a… --signer namespaces=8b1e…,hsm:2"
    command(keys, "link", example=example, asks=False)(link)
    command(keys, "show", example="key show ann.key --json > ann.json", asks=False)(show)
    example = (
        "key propose --role root=2 --role namespaces=2 --person ann.json --person ben.json"
        " --person eve.json --reason 'no longer alone'"
    )
    command(keys, "propose", example=example)(propose)
    example = "key rotate --role director --home fleet --reason 'the key was copied'"
    command(keys, "rotate", example=example)(rotate)
    app.add_typer(keys, name="key")


def new(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To be made.")],
    fleet: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Whose; left out before a ceremony."),
    ] = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make keys for one person, sealed by a passphrase. They never leave the file."""
    from modelfleet_manifests.digests import is_digest
    from modelfleet_server.trust.approver import UNBOUND, ApproverKeys, write_approver

    if fleet is not None and not is_digest(fleet):
        raise InvalidError(f"{fleet!r} is no fleet's id", "It has 64 hexadecimal digits.")
    made = ApproverKeys(fleet or UNBOUND, ApproverKeys.generate())
    write_approver(file, made, find_passphrase(passphrase_file, new=True))
    public = {role: key.public.hex for role, key in made.by_role.items()}
    done = {"file": str(file), "fleet": fleet, "keys": public}
    run.screen.show(done, lambda: run.screen.say(f"Made {file}. Keep a copy elsewhere."))


def link(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To be made.")],
    fleet: Annotated[str, typer.Option(metavar="ID", help="Whose approver this is.")],
    signer: Annotated[
        list[str],
        typer.Option(
            metavar="ROLE=PUBLIC,URI",
            help="Ed25519 public key, and where securesystemslib finds its signer; repeat.",
        ),
    ],
) -> None:
    """Name keys that are elsewhere: on a token, in a vault. Use it as --approver-key."""
    from modelfleet_manifests.digests import is_digest
    from modelfleet_manifests.keys import PublicKey
    from modelfleet_server.trust.outside import write_signers

    if not is_digest(fleet):
        raise InvalidError(f"{fleet!r} is no fleet's id", "It has 64 hexadecimal digits.")
    signers = {}
    for one in signer:
        role, _, rest = one.partition("=")
        public, _, uri = rest.partition(",")
        if not uri:
            raise InvalidError(f"{one!r} names no signer", "Write ROLE=PUBLIC,URI.")
        signers[role] = (PublicKey(public), uri)
    write_signers(file, fleet, signers)
    done = {
        "file": str(file),
        "fleet": fleet,
        "keys": {r: k.hex for r, (k, _) in signers.items()},
    }
    run.screen.show(done, lambda: run.screen.say(f"Made {file}; it holds no secret."))


def show(
    run: Run, file: Annotated[Path, typer.Argument(metavar="FILE", help="A key file.")]
) -> None:
    """Show the public keys in a file; its passphrase is not asked for."""
    from modelfleet_server.trust.approver import UNBOUND
    from modelfleet_server.trust.outside import read_any

    said = read_any(file)
    fleet = None if said.fleet == UNBOUND else said.fleet
    keys = {role: key.hex for role, key in said.keys.items()}
    pairs = [("fleet", fleet or "none yet"), *keys.items()]
    run.screen.show({"fleet": fleet, "keys": keys}, lambda: run.screen.facts(pairs))


def propose(
    run: Run,
    role: Annotated[
        list[str], typer.Option(metavar="ROLE=N", help="N of the people sign it; repeat.")
    ],
    person: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="From `key show --json`; repeat it."),
    ],
    reason: Reason,
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE,FILE", help="One of these people must sign releases."),
    ] = None,
    waiver: Annotated[
        str | None,
        typer.Option(
            metavar="FILE,FILE", help="Who lets pass what nobody reproduced: build-waiver."
        ),
    ] = None,
) -> None:
    """Propose that other people sign, and how many of them must.

    The name of a namespace in place of a role means its approvers only.
    """
    people = {path.name: read_person(path) for path in person}
    body: Json = {"roles": {}, "reason": reason}
    for one in role:
        name, threshold = read_threshold(one)
        keys = [_key_for(name, who, them) for who, them in people.items()]
        body["roles"][name] = {"keys": keys, "threshold": threshold}
    if group:
        body["groups"] = [_group(one, people) for one in group]
    if waiver:
        body["waivers"] = _group(waiver, people)
    _tell(run, run.client.post("/keys", body))


def rotate(
    run: Run,
    role: Annotated[
        list[str], typer.Option(help="director, time, snapshot or timestamp; repeat it.")
    ],
    reason: Reason,
    home: Home = None,
    yes: Yes = False,
) -> None:
    """Make new online keys beside the old ones, and propose that they sign.

    Start the server again before the proposal is approved: it must have the keys.
    """
    import os

    from modelfleet_server.settings import load_settings
    from modelfleet_server.trust.online import add_ring

    settings = load_settings(home, environ=os.environ)
    run.screen.confirm(f"Make new keys for {', '.join(role)}?", yes=yes)
    added = add_ring(settings.online_key, role)
    roles = {name: {"keys": [key.hex], "threshold": 1} for name, key in added.items()}
    _tell(run, run.client.post("/keys", {"roles": roles, "reason": reason}))
    run.screen.note("Start the server again, then approve: it signs with the new keys.")


def read_person(path: Path) -> dict[str, str]:
    """Return the public keys that `key show --json` printed into a file.

    Raises:
        InvalidError: It holds none.
    """
    try:
        keys = json.loads(path.read_bytes())["keys"]
        return {str(role): str(key) for role, key in keys.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidError(
            f"{path} holds no public keys ({error})", "Make it: key show FILE --json."
        ) from None


def read_threshold(text: str) -> tuple[str, int]:
    """Return role and number of `root=2`.

    Raises:
        InvalidError: It is not written so.
    """
    name, _, number = text.partition("=")
    if not name or not number.isdecimal():
        raise InvalidError(f"{text!r} is no role with a number", "Write root=2.")
    return name, int(number)


def _key_for(role: str, who: str, keys: dict[str, str]) -> str:
    """Return a person's key for a role; for a namespace it is that of an approver."""
    # a name that is neither is refused by the server, which knows the namespaces
    known = {"root", "targets", "revocations", "stops", "director", "time"}
    name = role if role in known else "namespaces"
    if name not in keys:
        raise InvalidError(f"{who} has no key for {name!r}", "See: key show.")
    return keys[name]


def _group(text: str, people: dict[str, dict[str, str]]) -> list[str]:
    names = [Path(one).name for one in text.split(",")]
    strange = [one for one in names if one not in people]
    if strange:
        raise InvalidError(f"{strange[0]} is not among the people", "Add --person.")
    return [people[one]["namespaces"] for one in names]


def _tell(run: Run, proposal: Json) -> None:
    words = f"Proposed: {proposal['title']}", f"Sign: modelfleet approve {proposal['id']}"
    run.screen.show(proposal, lambda: run.screen.say(*words))
