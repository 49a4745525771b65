"""What goes wrong on the server, by what the caller can do about it.

Subclass one of these in a slice and give it a `code`; put data in keyword arguments, so
that programs need not parse prose. Nothing here knows HTTP: `kit.problems` does.
"""

from typing import ClassVar


class AppError(Exception):
    """An error that the person or program that asked should read.

    Attributes:
        code: Stable word for programs, for example `not-found`.
        what: Names the input and what is wrong with it, one sentence.
        hint: What to do next; empty when there is nothing to add.
        data: Further facts; become members of the problem document.
    """

    code: ClassVar[str] = "error"

    def __init__(self, what: str, hint: str = "", **data: object) -> None:
        super().__init__(f"{what}. {hint}" if hint else what)
        self.what = what
        self.hint = hint
        self.data = data


class NotFoundError(AppError):
    """What was named does not exist."""

    code: ClassVar[str] = "not-found"


class ConflictError(AppError):
    """It clashes with what is there already: change the wish, or what is there."""

    code: ClassVar[str] = "conflict"


class InvalidError(AppError):
    """The input itself is wrong; the same input will never be right."""

    code: ClassVar[str] = "invalid"


class UnauthorizedError(AppError):
    """Nobody is known to be asking: log in."""

    code: ClassVar[str] = "unauthorized"


class ForbiddenError(AppError):
    """Whoever asks is known and may not do this."""

    code: ClassVar[str] = "forbidden"


class TooManyError(AppError):
    """Asked too often: wait `data["retry_after_ms"]` milliseconds, then ask again."""

    code: ClassVar[str] = "too-many"


class UnavailableError(AppError):
    """The world was in the way (database busy, broker away): try again later."""

    code: ClassVar[str] = "unavailable"
