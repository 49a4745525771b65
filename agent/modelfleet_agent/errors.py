"""What goes wrong on a device, by what the catcher does next.

Codes are stable words for machines (`E_DIGEST`); they travel in reports and logs, so an
existing one is never renamed. `data` names the thing that was wrong: paths, digests, sizes.
"""


class AgentError(Exception):
    """Root of everything the agent raises on purpose.

    Attributes:
        code: Stable word, `E_` and capitals.
        what: One sentence for people: what was wrong with which input.
        hint: What to do next, or empty.
        data: JSON values that identify the input.
    """

    def __init__(self, code: str, what: str, *, hint: str = "", **data: object) -> None:
        self.code = code
        self.what = what
        self.hint = hint
        self.data = data
        super().__init__(f"{code}: {what}" + (f"; {hint}" if hint else ""))


class RetryableError(AgentError):
    """The world was in the way: try again later, with backoff."""


class HeldError(RetryableError):
    """The device's own settings say: not now. Nothing failed.

    Attributes:
        until: When it may be otherwise, Unix ms; None where no clock decides.
    """

    def __init__(self, code: str, what: str, *, until: int | None = None) -> None:
        super().__init__(code, what)
        self.until = until


class RefusedError(AgentError):
    """The update itself is bad: report it and do not try it again."""


class UsageError(AgentError):
    """The caller or the operator asked for something impossible: nothing to retry."""
