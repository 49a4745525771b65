"""The command `modelfleet`: all subjects together, errors, exit codes.

Modules of a subject import only what is quick to import; all else where it is used, so
that help and completion stay fast.
"""

import json
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from modelfleet_manifests.errors import ManifestError
from modelfleet_server.cli import (
    approval,
    audit,
    ceremonies,
    compliance,
    delta,
    deltas,
    demo,
    devices,
    floor,
    groups,
    home,
    jobs,
    keys,
    publication,
    recall,
    releases,
    rollback,
    rollouts,
    users,
    variants,
)
from modelfleet_server.cli.exits import MEANING, Exit, ServerError, exit_of
from modelfleet_server.cli.run import AS_IT_IS, subject
from modelfleet_server.cli.screen import plain
from modelfleet_server.kit.errors import AppError

CODES = "\n".join(f"  {code:d}  {words}" for code, words in MEANING.items())
HELP = f"""Signed models for a fleet of devices: publish, roll out, look, take back.

Begin with: modelfleet init --solo, modelfleet serve, modelfleet login.

{AS_IT_IS}
Exit codes, the same for every command:
{CODES}
"""
INTERRUPTED = 130

app = subject(HELP, completion=True)
deltas.add_to(delta.app)
app.add_typer(delta.app, name="delta")
for part in (
    home,
    ceremonies,
    keys,
    users,
    publication,
    approval,
    releases,
    variants,
    devices,
    groups,
    jobs,
    rollouts,
    rollback,
    recall,
    floor,
    compliance,
    audit,
    demo,
):
    part.add_to(app)


def _show_version(value: bool) -> None:
    if value:
        print(version("modelfleet"))
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:  # fmt: skip
    """See `HELP`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Without the program's name; None for those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        answer = app(given, prog_name="modelfleet", standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        print("modelfleet: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has seen enough; Python must not complain at its exit
        sys.stdout = sys.__stderr__
        return Exit.OK
    except ImportError:
        raise  # `modelfleet_server.main` says what to install
    except Exception as error:  # noqa: BLE001 the one place that turns errors into words
        return _fail(error, as_json=as_json)
    return int(answer) if isinstance(answer, int) else Exit.OK


def _usage(error: typer.TyperException, *, as_json: bool) -> int:
    message = error.format_message()
    if as_json and message:
        _print_json("usage", message, "See: modelfleet --help.", Exit.USAGE, {})
    else:
        show = getattr(error, "show", None)
        if show is not None:
            show()
        else:
            print(f"modelfleet: {plain(message)}", file=sys.stderr)
    return Exit.USAGE


def _fail(error: Exception, *, as_json: bool) -> int:
    ended = exit_of(error)
    if ended is Exit.DEFECT and not isinstance(error, AppError):
        traceback.print_exception(error)
        hint = "This is a defect of modelfleet: please report it with the lines above."
        code, what, data = "defect", f"{type(error).__name__}: {error}", {}
    elif isinstance(error, AppError):
        code = error.problem if isinstance(error, ServerError) else error.code
        what, hint, data = error.what, error.hint, error.data
    elif isinstance(error, ManifestError):
        code, what, hint, data = error.code, str(error), "", {}
    else:
        code, what, hint, data = "error", str(error), "", {}
    if as_json:
        _print_json(code, what, hint, ended, data)
    else:
        print(f"modelfleet: {plain(what)} [{code}]", file=sys.stderr)
        for line in hint.splitlines():  # such as the end of a log
            print(f"  {plain(line)}", file=sys.stderr)
    return ended


def _print_json(
    code: str, what: str, hint: str, ended: Exit, data: dict[str, object]
) -> None:
    error = {**data, "code": code, "what": what, "hint": hint, "exit": int(ended)}
    print(json.dumps({"error": error}, default=str), file=sys.stderr)
