"""Promises: what has to come true, by when, and what is said if it does not."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modelfleet_server.kit.errors import AppError

Found = TypeVar("Found")
LOOK_S = 0.2
TAIL_LINES = 25


class PromiseError(AppError):
    """The main job did not go as promised."""

    code = "demo-promise"


def keep_promise(kept: object, what: str, hint: str = "") -> None:
    """Go on if it was kept.

    Raises:
        PromiseError: It was not; `what` says what happened instead.
    """
    if not kept:
        raise PromiseError(what, hint)


def wait_for(
    look: Callable[[], Found | None],
    what: str,
    *,
    within_s: float,
    log: Path | None = None,
    every_s: float = LOOK_S,
) -> Found:
    """Look until there is something true, and return it.

    Args:
        look: Returns something false as long as it is not there.
        what: What is waited for, as it follows `waited in vain for`.
        within_s: How long, in seconds.
        log: Whose end says why it may not have come.
        every_s: Between two looks.

    Raises:
        PromiseError: It did not come.
    """
    end = time.monotonic() + within_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            tail = f"The end of {log}:\n{tail_of(log)}" if log else ""
            raise PromiseError(f"waited in vain for {what}, {within_s:g} s", tail)
        time.sleep(every_s)


def tail_of(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, as much as there is."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return "(it was never written)"
    return "\n".join(text.splitlines()[-lines:]) or "(it is empty)"
