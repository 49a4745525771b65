"""Text: the greedy reading of scores per step, or signs as they are."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelfleet_server.builds.metrics.kind import Answers, misfit

BLANK = 0
"""The sign that says nothing (CTC: Graves et al. 2006)."""
FILL = -1
"""What fills labels and whole-number answers up to the longest."""
Reading = Sequence[int] | str


class _Text:
    """What both metrics share."""

    name = ""
    needs_labels = True

    def check(self, answers: Answers, truth: Answers) -> None:
        """See `Metric`."""
        scores = answers.ndim == 3 and answers.dtype.kind == "f"  # noqa: PLR2004
        if not scores and answers.dtype.kind not in "OUiu":
            raise misfit(
                self.name,
                f"a first output of {answers.dtype} {list(answers.shape)}",
                "Put scores [samples, steps, signs], signs [samples, steps] or text first.",
            )
        if len(truth) != len(answers) or truth.dtype.kind not in "OUiu":
            raise misfit(
                self.name,
                f"labels of {truth.dtype} {list(truth.shape)}",
                "Store the signs of each text as whole numbers, filled up by -1.",
            )

    def same(self, answers: Answers, reference: Answers) -> NDArray[np.bool_]:
        """Say where the reading is the same."""
        pairs = zip(read(answers), read(reference), strict=True)
        return np.array([mine == other for mine, other in pairs], np.bool_)

    def margins(self, answers: Answers) -> NDArray[np.float64]:
        """Return the distance of the two best signs at the step where it is least."""
        if answers.ndim != 3 or answers.dtype.kind != "f":  # noqa: PLR2004
            return np.zeros(len(answers))
        best = np.partition(answers, -2, axis=2)
        least: NDArray[np.float64] = (best[:, :, -1] - best[:, :, -2]).min(axis=1)
        return least.astype(np.float64)


class Exact(_Text):
    """The share of texts without an error."""

    name = "text-exact"

    def score(self, answers: Answers, truth: Answers) -> float:
        """Return the share."""
        pairs = zip(read(answers), _labels(truth), strict=True)
        return float(np.mean([mine == wanted for mine, wanted in pairs]))


class CharacterErrors(_Text):
    """One minus the character error rate: edits by signs that are wanted."""

    name = "text-cer"

    def score(self, answers: Answers, truth: Answers) -> float:
        """Return 1 - CER; below 0 where more is wrong than there is."""
        wanted = _labels(truth)
        edits = sum(distance(a, b) for a, b in zip(read(answers), wanted, strict=True))
        return 1 - edits / max(1, sum(len(text) for text in wanted))


def read(answers: Answers) -> list[Reading]:
    """Return what each sample says; scores are read greedily, without repeats."""
    if answers.dtype.kind != "f":
        return _labels(answers)
    signs = answers.argmax(axis=2)
    return [
        [int(one) for one, before in zip(row, [BLANK, *row[:-1]], strict=True)
         if one not in (before, BLANK)]
        for row in signs
    ]  # fmt: skip


def distance(one: Reading, other: Reading) -> int:
    """Return how many signs must be put in, left out or changed (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for i, mine in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, theirs in enumerate(other, 1):
            cost = before + (mine != theirs)
            before, row[j] = row[j], min(cost, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def _labels(truth: Answers) -> list[Reading]:
    if truth.dtype.kind in "OU":
        return [_text(value) for value in truth.reshape(len(truth), -1)[:, 0]]
    return [[int(sign) for sign in row if sign != FILL] for row in truth]


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
