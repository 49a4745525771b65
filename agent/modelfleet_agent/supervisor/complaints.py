"""What went wrong since the last report: each thing once, with how often it did."""

import threading

MOST = 32
MAX_TEXT = 200


class Complaints:
    """Codes with words, the newest last. Safe in threads.

    A device that is offline for weeks meets the same error thousands of times: that is one
    row with a number, and no report of its own.
    """

    def __init__(self) -> None:
        """Nothing went wrong yet."""
        self._counts: dict[str, int] = {}
        self._lost = 0
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Something went wrong."""
        return bool(self._counts)

    def add(self, code: str, why: str, count: int = 1) -> None:
        """Note an error; beyond `MOST` different ones the oldest is only counted."""
        text = f"{code}: {why}"[:MAX_TEXT]
        with self._lock:
            self._counts[text] = self._counts.pop(text, 0) + count
            while len(self._counts) > MOST - 1:
                self._lost += self._counts.pop(next(iter(self._counts)))

    def peek(self) -> dict[str, int]:
        """Return what is noted, and how often each was met."""
        with self._lock:
            lost = {f"E_MORE: {self._lost:,} older errors": 1} if self._lost else {}
            return lost | self._counts

    def forget(self, told: dict[str, int]) -> None:
        """Forget what was told in a report that is on disk now."""
        with self._lock:
            self._lost = 0
            for text, count in told.items():
                left = self._counts.pop(text, 0) - count
                if left > 0:  # it was met again meanwhile
                    self._counts[text] = left


def words(told: dict[str, int]) -> list[str]:
    """Return the rows of a report."""
    return [
        text if count == 1 else f"{text[: MAX_TEXT - 12]} (x{count:,})"
        for text, count in told.items()
    ]
