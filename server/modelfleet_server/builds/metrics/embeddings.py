"""Vectors: whether they point where they should, and whether what belongs together does."""

import numpy as np
from numpy.typing import NDArray

from modelfleet_server.builds.metrics.kind import Answers, misfit

ALIKE = 0.95
"""Vectors of at least this cosine mean the same."""


class _Vectors:
    """What both metrics share."""

    name = ""

    def same(self, answers: Answers, reference: Answers) -> NDArray[np.bool_]:
        """Say where the cosine is at least `ALIKE`."""
        return np.asarray(_cosines(answers, reference) >= ALIKE)

    def margins(self, answers: Answers) -> NDArray[np.float64]:
        """Return by how much the nearest neighbour is nearer than the next."""
        if len(answers) < 3:  # noqa: PLR2004
            return np.zeros(len(answers))
        near = np.sort(_neighbours(answers), axis=1)
        return np.asarray(near[:, -1] - near[:, -2])

    def _check_vectors(self, answers: Answers) -> None:
        if answers.ndim != 2 or answers.dtype.kind != "f":  # noqa: PLR2004
            raise misfit(
                self.name,
                f"a first output of {answers.dtype} {list(answers.shape)}",
                "Put an output of one vector per sample, [samples, size], first.",
            )


class Cosine(_Vectors):
    """The mean cosine to the vector that is wanted, or to the master's own."""

    name = "cosine"
    needs_labels = False

    def check(self, answers: Answers, truth: Answers) -> None:
        """See `Metric`."""
        self._check_vectors(answers)
        if truth.shape != answers.shape:
            raise misfit(
                self.name,
                f"labels of the shape {list(truth.shape)}",
                f"Store vectors of the shape {list(answers.shape)}, or no labels.",
            )

    def score(self, answers: Answers, truth: Answers) -> float:
        """Return the mean cosine."""
        return float(_cosines(answers, truth).mean())


class Retrieval(_Vectors):
    """The share of samples whose nearest other sample is one of theirs."""

    name = "retrieval"
    needs_labels = True

    def check(self, answers: Answers, truth: Answers) -> None:
        """See `Metric`."""
        self._check_vectors(answers)
        if truth.shape != (len(answers),) or len(answers) < 2:  # noqa: PLR2004
            raise misfit(
                self.name,
                f"labels of the shape {list(truth.shape)} for {len(answers)} samples",
                "Store one label per sample; samples of one label belong together.",
            )

    def score(self, answers: Answers, truth: Answers) -> float:
        """Return the share."""
        nearest = _neighbours(answers).argmax(axis=1)
        return float((truth[nearest] == truth).mean())


def _unit(vectors: Answers) -> NDArray[np.float64]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.finfo(np.float64).tiny))


def _cosines(vectors: Answers, others: Answers) -> NDArray[np.float64]:
    return np.asarray((_unit(vectors) * _unit(others)).sum(axis=1))


def _neighbours(vectors: Answers) -> NDArray[np.float64]:
    """Return the cosine of each to each, [n, n]; no sample is its own neighbour."""
    unit = _unit(vectors)
    cosines = np.asarray(unit @ unit.T)
    np.fill_diagonal(cosines, -np.inf)
    return cosines
