"""The last answers, waiting for the label that says whether they were right."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modelfleet_agent.runtime.counters import Counters
from modelfleet_agent.runtime.tensors import Array

MOST_ROWS = 256


@dataclass(frozen=True)
class Answer:
    """The classes that one request was answered with, and who answered."""

    counters: Counters
    classes: tuple[int, ...]


class Answers:
    """Answers by request id; the oldest make room. Safe in threads."""

    def __init__(self, limit: int) -> None:
        """Remember at most `limit` answers."""
        self._limit = limit
        self._held: OrderedDict[str, Answer] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, request: str, answer: Answer) -> None:
        """Keep `answer`; a newer one with the same id takes its place."""
        with self._lock:
            self._held[request] = answer
            self._held.move_to_end(request)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)

    def label(self, request: str, labels: Sequence[int]) -> tuple[Answer, int] | None:
        """Count `labels` for the release that answered; each answer is judged once.

        Returns:
            The answer and its hits, or None where the id is unknown, forgotten or judged.

        Raises:
            ValueError: The request had another number of rows; it can be labelled still.
        """
        with self._lock:
            answer = self._held.get(request)
            if answer is None:
                return None
            if len(answer.classes) != len(labels):
                raise ValueError(f"it has {len(answer.classes)} rows, not {len(labels)}")
            del self._held[request]
        return answer, answer.counters.judge(answer.classes, labels)


def classes_of(output: Array) -> tuple[int, ...] | None:
    """Return the class of each row of a classifier's first output.

    Scores give the index of the largest one; whole numbers in one dimension are classes
    already. None where the output is neither, or has more than 256 rows.
    """
    if output.ndim == 0 or output.ndim > 2 or not output.size or len(output) > MOST_ROWS:  # noqa: PLR2004
        return None
    if output.dtype.kind in "iu" and output.ndim == 1:
        return tuple(int(value) for value in output)
    if output.dtype.kind not in "iuf":
        return None
    return tuple(int(row) for row in np.argmax(np.atleast_2d(output), axis=1))
