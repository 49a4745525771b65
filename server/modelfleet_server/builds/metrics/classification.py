"""Classes: the share of right answers."""

import numpy as np
from numpy.typing import NDArray

from modelfleet_server.builds.errors import DatasetError
from modelfleet_server.builds.metrics.kind import Answers, misfit


class Classification:
    """One score per class, or one probability between 0 and 1 of two classes."""

    name = "classification"
    needs_labels = True

    def check(self, answers: Answers, truth: Answers) -> None:
        """See `Metric`."""
        if answers.ndim != 2 or answers.dtype.kind not in "fiu":  # noqa: PLR2004
            raise DatasetError(
                "the model cannot be scored as a classifier: its first output has the "
                f"shape {list(answers.shape)}",
                "Put the output with one score per class, [samples, classes], first, or "
                "name another metric in the evaluation set.",
            )
        if truth.shape != (len(answers),) or truth.dtype.kind not in "iu":
            raise misfit(
                self.name,
                f"labels of {truth.dtype} {list(truth.shape)}",
                f"Store the index of the right class of all {len(answers)} samples.",
            )

    def score(self, answers: Answers, truth: Answers) -> float:
        """Return the share of right answers."""
        return float((classes_of(answers) == truth).mean())

    def same(self, answers: Answers, reference: Answers) -> NDArray[np.bool_]:
        """Say where the class is the same."""
        return np.asarray(classes_of(answers) == classes_of(reference))

    def margins(self, answers: Answers) -> NDArray[np.float64]:
        """Return the distance between the two best scores."""
        if answers.shape[1] == 1:
            return np.abs(answers[:, 0].astype(np.float64) - 0.5)
        best = np.sort(answers.astype(np.float64), axis=1)
        return np.asarray(best[:, -1] - best[:, -2])


def classes_of(answers: Answers) -> NDArray[np.int64]:
    """Return the class that is answered; a single score is the probability of class 1."""
    if answers.shape[1] == 1:
        return (answers[:, 0] >= 0.5).astype(np.int64)  # noqa: PLR2004
    return np.asarray(answers.argmax(axis=1), np.int64)
