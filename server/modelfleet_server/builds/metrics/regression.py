"""Numbers: how much of what there is to know is known."""

import numpy as np
from numpy.typing import NDArray

from modelfleet_server.builds.metrics.kind import Answers, misfit

ALIKE = 0.05
"""Answers that differ by so little of the spread of all answers mean the same."""
_NONE = 1e-12


class Regression:
    """One minus the root mean square error, as a share of the truth's spread.

    A budget of 0.02 allows an error that grows by 2 % of one standard deviation.
    """

    name = "regression"
    needs_labels = False

    def check(self, answers: Answers, truth: Answers) -> None:
        """See `Metric`."""
        if answers.dtype.kind not in "fiu" or truth.dtype.kind not in "fiu":
            raise misfit(self.name, "what is no number", "Put an output of numbers first.")
        if truth.size != answers.size or len(truth) != len(answers):
            raise misfit(
                self.name,
                f"labels of the shape {list(truth.shape)}",
                f"Store labels of the shape of the first output, {list(answers.shape)}.",
            )

    def score(self, answers: Answers, truth: Answers) -> float:
        """Return 1 - RMSE / standard deviation."""
        wanted = _flat(truth)
        error = float(np.sqrt(np.mean((_flat(answers) - wanted) ** 2)))
        return 1 - error / max(float(wanted.std()), _NONE)

    def same(self, answers: Answers, reference: Answers) -> NDArray[np.bool_]:
        """Say where the largest difference is small beside the spread."""
        wanted = _flat(reference)
        off = np.abs(_flat(answers) - wanted).max(axis=1)
        return np.asarray(off <= ALIKE * max(float(wanted.std()), _NONE))

    def margins(self, answers: Answers) -> NDArray[np.float64]:
        """Return minus the size: the largest numbers show scales that are off."""
        return np.asarray(-np.abs(_flat(answers)).max(axis=1))


def _flat(answers: Answers) -> NDArray[np.float64]:
    return answers.reshape(len(answers), -1).astype(np.float64)
