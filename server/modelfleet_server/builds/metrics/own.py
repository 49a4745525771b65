"""A metric of the operator's own: a Python entry point that is installed on the worker.

    [project.entry-points."modelfleet.metrics"]
    scratches = "my_package.metrics:scratches"

It is a function of a model's answers and the labels, both arrays with the samples along the
first axis, that returns one number between 0 and 1 per sample, 1 where the answer is right.
It runs in the same limited child as the model. An evaluation set only names it: who
publishes cannot bring code to the server that its administrator did not install.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points

import numpy as np
from numpy.typing import NDArray

from modelfleet_server.builds.errors import DatasetError
from modelfleet_server.builds.metrics.kind import Answers

GROUP = "modelfleet.metrics"
ALIKE = 0.05
"""Two answers of so little difference in score mean the same."""
Judge = Callable[[Answers, Answers], Answers]


class Own:
    """What an entry point says of the samples whose labels `check` was given, in order.

    Args:
        name: What evaluation sets call it.
        judge: Returns a score for each sample.
    """

    needs_labels = True

    def __init__(self, name: str, judge: Judge) -> None:
        self.name = name
        self._judge = judge
        self._truth: Answers | None = None

    def check(self, answers: Answers, truth: Answers) -> None:
        """See `Metric`."""
        if len(truth) != len(answers):
            raise DatasetError(
                f"there are {len(truth)} labels for {len(answers)} samples",
                "Store labels with the samples along the first axis.",
            )
        self._truth = truth
        self._each(answers)

    def score(self, answers: Answers, truth: Answers) -> float:
        """Return the mean."""
        self._truth = truth
        return float(self._each(answers).mean())

    def same(self, answers: Answers, reference: Answers) -> NDArray[np.bool_]:
        """Say where the score is about the same."""
        return np.asarray(np.abs(self._each(answers) - self._each(reference)) <= ALIKE)

    def margins(self, answers: Answers) -> NDArray[np.float64]:
        """Return how far each score is from one half."""
        return np.abs(self._each(answers) - 0.5)

    def _each(self, answers: Answers) -> NDArray[np.float64]:
        truth = answers if self._truth is None else self._truth[: len(answers)]
        try:
            scores = np.asarray(self._judge(answers, truth), np.float64)
        except Exception as error:
            raise DatasetError(
                f"the metric {self.name!r} failed: {type(error).__name__}: {error}",
                "Try its function on the answers of the master.",
            ) from error
        fits = scores.shape == (len(answers),) and bool(np.isfinite(scores).all())
        if not fits or scores.min() < 0 or scores.max() > 1:
            raise DatasetError(
                f"the metric {self.name!r} gives an array {list(scores.shape)}",
                f"It must give {len(answers)} numbers between 0 and 1.",
            )
        return scores


def load_own(name: str, known: Sequence[str]) -> Own:
    """Return the metric of an installed entry point.

    Raises:
        DatasetError: There is none of this name, or it cannot be imported.
    """
    for entry in entry_points(group=GROUP, name=name):
        try:
            return Own(name, entry.load())
        except Exception as error:
            raise DatasetError(
                f"the metric {name!r} cannot be imported: {error}",
                "Install its package on the worker again.",
            ) from error
    raise DatasetError(
        f"there is no metric {name!r}",
        f"Known are {', '.join(known)}, and entry points of the group {GROUP}.",
    )
