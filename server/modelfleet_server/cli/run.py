"""One run of a command: what every command shares, and how one is registered.

`command(app)` gives a function the options `--json`, `--server` and `--token`; it takes a
`Run` in their place. `--json` has to be known before anything is parsed, so that also a
wrong command line is told in JSON: see `cli.root`.
"""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from modelfleet_server.cli.account import Account, find_account
from modelfleet_server.cli.client import Client, Listing
from modelfleet_server.cli.screen import Screen

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document, errors too.")
]
ServerUrl = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="The server [env MODELFLEET_SERVER]."),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", metavar="TOKEN", help="Act with this token [env MODELFLEET_TOKEN]."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Limit = Annotated[int, typer.Option(min=0, metavar="N", help="At most so many; 0: all.")]
AS_IT_IS = "\b"
"""Begins a paragraph of help whose lines are not joined."""


class Run:
    """A command at work.

    Attributes:
        screen: Where it writes.
        named_server: What `--server` said.
    """

    def __init__(
        self, *, as_json: bool = False, server: str | None = None, token: str | None = None
    ) -> None:
        self.screen = Screen(as_json=as_json)
        self.named_server = server
        self._token = token
        self._client: Client | None = None

    @property
    def account(self) -> Account:
        """Whom to ask."""
        return find_account(self.named_server, self._token, os.environ)

    @property
    def client(self) -> Client:
        """The server, as whoever is logged in."""
        if self._client is None:
            self._client = Client(self.account)
        return self._client

    def show_list(
        self, listing: Listing, columns: list[str], rows: list[list[object]]
    ) -> None:
        """Print a list, and say if there is more of it."""
        self.screen.show(listing.document, lambda: self.screen.table(columns, rows))
        if listing.next is not None:
            self.screen.note("There are more: say --limit 0 for all.")

    def close(self) -> None:
        """Let go of the connection."""
        if self._client is not None:
            self._client.close()


def command(
    app: typer.Typer, name: str | None = None, *, example: str, asks: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function whose first parameter is a `Run` as a command.

    Args:
        app: Where.
        name: Of the command, the function's if None.
        example: What follows `modelfleet` in an example, several lines for several.
        asks: It asks a server, so it takes `--server` and `--token`.
    """
    shared: list[tuple[str, Any, object]] = [("as_json", AsJson, False)]
    if asks:
        shared += [("server", ServerUrl, None), ("token", Token, None)]

    def register(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        added = [
            inspect.Parameter(
                word, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
            )
            for word, kind, default in shared
        ]

        @functools.wraps(function)
        def invoke(**given: Any) -> None:  # noqa: ANN401 what typer parsed
            run = Run(**{word: given.pop(word) for word, _kind, _default in shared})
            try:
                function(run, **given)
            finally:
                run.close()

        keyword = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        invoke.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*keyword, *added]
        )
        lines = "\n".join(f"  modelfleet {line}" for line in example.splitlines())
        app.command(name, epilog=f"{AS_IT_IS}\nFor example:\n{lines}")(invoke)
        return function

    return register


def subject(help_text: str, *, completion: bool = False) -> typer.Typer:
    """Return an application for commands on one subject."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=completion,
    )
