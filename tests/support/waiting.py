"""Waiting for what other threads and processes do, without sleeping for it."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(look: Callable[[], Found], what: str, timeout_s: float = 20) -> Found:
    """Call `look` until it returns something true, and return that.

    Raises:
        AssertionError: It did not within `timeout_s` seconds.
    """
    end = time.monotonic() + timeout_s
    while True:
        if found := look():
            return found
        if time.monotonic() > end:
            raise AssertionError(f"did not happen within {timeout_s} s: {what}")
        time.sleep(0.01)
