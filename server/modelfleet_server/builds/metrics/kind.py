"""What every metric can do."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from modelfleet_server.builds.errors import DatasetError

Answers = NDArray[Any]
"""The first output of a model for n samples, samples along the first axis."""


class Metric(Protocol):
    """Judges answers. All methods are given answers that `check` has let pass."""

    @property
    def name(self) -> str:
        """What evaluation sets call it."""

    @property
    def needs_labels(self) -> bool:
        """Without labels there is no truth, not even the master's answers."""

    def check(self, answers: Answers, truth: Answers) -> None:
        """Check that a model's answers and the labels can be judged.

        Raises:
            DatasetError: They cannot; says what is wanted.
        """

    def score(self, answers: Answers, truth: Answers) -> float:
        """Return how good the answers are: 1 is perfect, higher is better."""

    def same(self, answers: Answers, reference: Answers) -> NDArray[np.bool_]:
        """Say of each sample whether the answer means the same as the other."""

    def margins(self, answers: Answers) -> NDArray[np.float64]:
        """Return how far each sample is from being answered otherwise; less is nearer."""


def misfit(metric: str, has: str, wanted: str) -> DatasetError:
    """Return the error for answers or labels that a metric cannot judge."""
    return DatasetError(
        f"the evaluation set is to be judged by {metric!r}, which cannot judge {has}",
        wanted,
    )
