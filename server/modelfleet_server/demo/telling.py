"""What the demonstration says, as data: whoever runs it decides how that looks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Begun:
    """A step of the main job begins."""

    number: int
    title: str


@dataclass(frozen=True, slots=True)
class Said:
    """Something was done or seen, in plain words."""

    text: str


@dataclass(frozen=True, slots=True)
class Typed:
    """The command that does by hand what was just done."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title; columns whose name ends in `>` are aligned right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Open:
    """The console stays up at `url` for whoever logs in, until Ctrl-C."""

    url: str
    user: str
    password: str
    home: str


Line = Begun | Said | Typed | Table | Open
Say = Callable[[Line], None]


def kilobytes(count: float) -> str:
    """Return bytes in thousands, as networks are billed: `12.3 kB`."""
    return f"{count / 1000:.1f} kB"


def seconds(count: float) -> str:
    """Return seconds with what can be told apart: `0.42 s`, `12.3 s`."""
    return f"{count:.2f} s" if count < 10 else f"{count:.1f} s"  # noqa: PLR2004


def points(drop: float | None) -> str:
    """Return a drop of accuracy as the gain it is, in percentage points: `-0.3`."""
    return "-" if drop is None else f"{-drop * 100:+.1f}"
