"""What a command shows: one JSON document, or tables and words for people.

Results go to standard output, everything else to standard error. Data from the fleet is
never read as markup, and characters that could steer a terminal are replaced.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from modelfleet_server.cli.exits import DeclinedError
from modelfleet_server.kit.errors import InvalidError

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1000
"""Columns where nobody looks: a table in a pipe is not cut to 80."""

Advance = Callable[[float], None]
"""Sets how much of a bar is done."""


def plain(value: object) -> str:
    """Return text in which every character can be seen; `-` for nothing."""
    text = "-" if value is None or value == "" else str(value)
    return "".join(
        one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text
    )


class Screen:
    """Where a command writes.

    Args:
        as_json: Say everything in JSON.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, document: object, tell: Callable[[], None]) -> None:
        """Print the result: the document as JSON, or what `tell` says."""
        if self.as_json:
            print(json.dumps(document, ensure_ascii=False))
        else:
            tell()

    def say(self, *lines: str) -> None:
        """Print lines for people to standard output."""
        for line in lines:
            print(plain(line) if line else "")

    def note(self, line: str) -> None:
        """Tell people what goes on, on standard error; silent with `--json`."""
        if not self.as_json:
            print(plain(line), file=sys.stderr)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Print a table; columns whose name ends in `>` are aligned right."""
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
        for column in columns:
            right = column.endswith(">")
            table.add_column(
                column.rstrip(">"),
                justify="right" if right else "left",
                no_wrap=right,
                overflow="fold",  # an id that is cut off cannot be copied
            )
        for row in rows:
            table.add_row(*(plain(cell) for cell in row))
        console = _console()
        with console.capture() as drawn:
            console.print(table)
        print("\n".join(line.rstrip() for line in drawn.get().splitlines()))

    def facts(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Print names and values in two columns."""
        them = [(name, plain(value)) for name, value in pairs]
        width = max((len(name) for name, _ in them), default=0)
        for name, value in them:
            print(f"{name:<{width}}  {value}")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Return if the person agrees, or did with `--yes`.

        Raises:
            DeclinedError: They do not.
            InvalidError: There is nobody to ask.
        """
        if not yes and self._ask(f"{question} [y/N] ").lower() not in {"y", "yes"}:
            raise DeclinedError("nothing was done", "You did not say yes.")

    def confirm_word(self, word: str, *, yes: bool) -> None:
        """Return if the person types `word`, or agreed with `--yes`.

        Raises:
            DeclinedError: They typed something else.
            InvalidError: There is nobody to ask.
        """
        if not yes and self._ask(f"Type {word} to sign it: ") != word:
            raise DeclinedError("nothing was done", "What was typed is something else.")

    def _ask(self, question: str) -> str:
        if self.as_json or not sys.stdin.isatty():
            raise InvalidError("this has to be confirmed", "Say --yes if you mean it.")
        print(plain(question), end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip()

    @contextmanager
    def progress(self) -> Iterator["Bars"]:
        """Show bars while the block runs, if somebody looks."""
        if self.as_json or not sys.stderr.isatty():
            yield Bars(None)
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[step]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=_console(stderr=True)) as shown:
            yield Bars(shown)


class Bars:
    """Progress bars by name; nothing where nobody looks."""

    def __init__(self, shown: Any) -> None:  # noqa: ANN401 rich is imported only if needed
        self._shown = shown
        self._tasks: dict[str, Any] = {}

    def set(self, name: str, done: float, of: float, step: str = "") -> None:
        """Let the bar `name` stand at `done` of `of`."""
        if self._shown is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self._shown.add_task(plain(name), total=None, step="")
        self._shown.update(
            self._tasks[name],
            completed=done,
            total=of or None,
            step=plain(step) if step else "",
        )


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        width=None if stream.isatty() else WIDE,
    )
