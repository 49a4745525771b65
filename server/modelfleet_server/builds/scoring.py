"""A model's answers to an evaluation set, and how good they are; only in a limited child.

Nothing here imports onnx: under emulation every import takes seconds.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelfleet_server.builds import evaluate
from modelfleet_server.builds.datasets import read_dataset
from modelfleet_server.builds.errors import DatasetError
from modelfleet_server.builds.messages import AnswerJob, GradeJob, Scores

AT_ONCE = 8
"""Samples between two looks at the clock."""


def answer(job: AnswerJob) -> int:
    """Write what the model of `job` answers; return to how many samples.

    Raises:
        DatasetError: The evaluation set does not fit.
        BuildError: The model fails.
    """
    data = read_dataset(
        Path(job.evaluation), job.schema, labelled=True, what="the evaluation set"
    ).take(slice(0, job.samples))
    loaded = evaluate.Loaded(Path(job.model), job.schema, "the variant")
    # time of this thread: a busy machine must not shorten a proof
    began = time.thread_time()
    parts: list[NDArray[Any]] = []
    step = AT_ONCE if data.whole else max(AT_ONCE, loaded.fixed or 1)
    for start in range(0, len(data), step):
        spent = time.thread_time() - began
        if start >= max(1, job.least) and spent > job.enough_s:
            break
        parts.append(loaded.run_all(data.take(slice(start, start + step))))
    answers = np.concatenate(parts)
    np.save(job.answers, answers, allow_pickle=False)
    return len(answers)


def grade(job: GradeJob) -> Scores:
    """Compare the answers of `job` with those of the master here.

    Raises:
        DatasetError: The evaluation set or the answers do not fit.
        BuildError: The master fails.
    """
    try:
        answers = np.load(job.answers, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f"the answers cannot be read: {error}") from None
    data = read_dataset(
        Path(job.evaluation), job.schema, labelled=True, what="the evaluation set"
    )
    if not 0 < len(answers) <= len(data):
        raise DatasetError(f"there are {len(answers)} answers to {len(data)} samples")
    master = evaluate.Loaded(Path(job.master), job.schema, "the master")
    exam = evaluate.Exam(master, data.take(slice(0, len(answers))))
    accuracy, disagreements = exam.grade(answers)
    return Scores(
        accuracy=accuracy,
        master_accuracy=exam.accuracy,
        disagreements=disagreements,
        samples=len(answers),
    )
