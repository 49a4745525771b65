"""Answers of one model on an evaluation set, and a probe; only in a limited child.

Nothing here imports onnx: under emulation every import takes seconds.
"""

from pathlib import Path

import numpy as np

from modelfleet_server.builds import evaluate
from modelfleet_server.builds.datasets import read_dataset
from modelfleet_server.builds.domain import ScoreJob, Scores


def score(job: ScoreJob) -> Scores:
    """Return what the model of `job` answers.

    Raises:
        DatasetError: The evaluation set does not fit.
        BuildError: The model fails.
    """
    data = read_dataset(
        Path(job.evaluation), job.schema, labelled=True, what="the evaluation set"
    ).take(slice(0, job.samples))
    loaded = evaluate.Loaded(Path(job.model), job.schema, "the variant")
    answers = evaluate.scores_of(loaded, data).argmax(axis=1)
    right = int(np.count_nonzero(answers == data.labels))
    return Scores(answers=[int(answer) for answer in answers], right=right)
