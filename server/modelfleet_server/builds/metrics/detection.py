"""Boxes around things: mean average precision.

Answers have the shape [n, k, 6]: left, top, right, bottom, score, class; a score of 0 or
less is no box. Labels have the shape [n, m, 5]: class, left, top, right, bottom; a class
below 0 is no box.
"""

import numpy as np
from numpy.typing import NDArray

from modelfleet_server.builds.metrics.kind import Answers, misfit

OVERLAP = 0.5
"""Boxes that share so much of what they cover together (IoU) mean the same thing."""
SURE = 0.5
"""Boxes of at least this score are what an application acts on."""
_BOX, _TRUTH = 6, 5


class Detection:
    """mAP at an overlap of 0.5: the mean over classes of the area under precision."""

    name = "detection"
    needs_labels = True

    def check(self, answers: Answers, truth: Answers) -> None:
        """See `Metric`."""
        if answers.ndim != 3 or answers.shape[2] != _BOX:  # noqa: PLR2004
            raise misfit(
                self.name,
                f"a first output of the shape {list(answers.shape)}",
                "Put [samples, boxes, (left, top, right, bottom, score, class)] first.",
            )
        if truth.ndim != 3 or truth.shape[2] != _TRUTH or len(truth) != len(answers):  # noqa: PLR2004
            raise misfit(
                self.name,
                f"labels of the shape {list(truth.shape)}",
                "Store [samples, boxes, (class, left, top, right, bottom)].",
            )

    def score(self, answers: Answers, truth: Answers) -> float:
        """Return the mean average precision over the classes that occur."""
        kinds = sorted({int(kind) for kind in truth[..., 0].ravel() if kind >= 0})
        each = [_average_precision(answers, truth, kind) for kind in kinds]
        return float(np.mean(each)) if each else 1.0

    def same(self, answers: Answers, reference: Answers) -> NDArray[np.bool_]:
        """Say where the boxes that count are matched one to one."""
        pairs = zip(answers, reference, strict=True)
        return np.array([_matched(a, b) for a, b in pairs], np.bool_)

    def margins(self, answers: Answers) -> NDArray[np.float64]:
        """Return how near the nearest score is to where a box counts."""
        return np.asarray(np.abs(answers[..., 4].astype(np.float64) - SURE).min(axis=1))


def overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return intersection over union of a box and each of `others`, [m, 4]."""
    low = np.maximum(box[:2], others[:, :2])
    high = np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    whole = np.clip(others[:, 2:] - others[:, :2], 0, None).prod(axis=1)
    both = np.clip(box[2:] - box[:2], 0, None).prod() + whole - shared
    return np.asarray(shared / np.maximum(both, np.finfo(np.float64).tiny))


def _average_precision(answers: Answers, truth: Answers, kind: int) -> float:
    """Return the area under precision over recall for one class (PASCAL VOC 2010)."""
    left = [row[row[:, 0] == kind][:, 1:].astype(np.float64) for row in truth]
    wanted = sum(len(boxes) for boxes in left)
    found = [
        (float(box[4]), index, box[:4].astype(np.float64))
        for index, boxes in enumerate(answers)
        for box in boxes
        if box[4] > 0 and int(box[5]) == kind
    ]
    hits = []
    for _, index, box in sorted(found, key=lambda it: -it[0]):
        shares = overlap(box, left[index])
        best = int(shares.argmax()) if len(shares) else -1
        hit = best >= 0 and shares[best] >= OVERLAP
        hits.append(hit)
        if hit:
            left[index] = np.delete(left[index], best, axis=0)
    right = np.cumsum(hits, dtype=np.float64)
    precision = right / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * np.asarray(hits, np.float64)).sum() / wanted)


def _matched(boxes: Answers, others: Answers) -> bool:
    mine, theirs = (them[them[:, 4] >= SURE].astype(np.float64) for them in (boxes, others))
    if len(mine) != len(theirs):
        return False
    for box in mine:
        fits = (overlap(box[:4], theirs[:, :4]) >= OVERLAP) & (theirs[:, 5] == box[5])
        if not fits.any():
            return False
        theirs = np.delete(theirs, int(fits.argmax()), axis=0)
    return True
