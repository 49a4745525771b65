"""How good answers are, and whether two models answer the same: by the kind of task.

An evaluation set says by which metric it is judged (its array `metric`); where it does not
say, its labels are classes. Only the child imports this.

| metric           | first output, n samples          | labels `y`                         |
|------------------|----------------------------------|------------------------------------|
| `classification` | scores [n, classes], or [n, 1]   | index of the right class [n]       |
| `regression`     | numbers [n, ...]                 | right numbers, of the same shape   |
| `detection`      | boxes [n, k, 6], see `detection` | boxes [n, m, 5], see `detection`   |
| `text-cer`       | signs' scores [n, steps, signs]  | signs [n, length], filled up by -1 |
| `text-exact`     | the same                         | the same                           |
| `cosine`         | vectors [n, size]                | vectors; else the master's own    |
| `retrieval`      | vectors [n, size]                | what belongs together [n]          |
| any other name   | as its owner wishes              | as its owner wishes, see `own`     |

`regression` too takes the master's answers for the truth where there are no labels.
"""

from modelfleet_server.builds.metrics.classification import Classification
from modelfleet_server.builds.metrics.detection import Detection
from modelfleet_server.builds.metrics.embeddings import Cosine, Retrieval
from modelfleet_server.builds.metrics.kind import Metric
from modelfleet_server.builds.metrics.own import load_own
from modelfleet_server.builds.metrics.regression import Regression
from modelfleet_server.builds.metrics.text import CharacterErrors, Exact

__all__ = ["DEFAULT", "Metric", "find_metric"]

DEFAULT = "classification"
_KNOWN: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Classification(),
        Regression(),
        Detection(),
        CharacterErrors(),
        Exact(),
        Cosine(),
        Retrieval(),
    )
}


def find_metric(name: str) -> Metric:
    """Return a metric by its name: one of ours, or an installed entry point.

    Raises:
        DatasetError: There is none of this name.
    """
    return _KNOWN[name] if name in _KNOWN else load_own(name, sorted(_KNOWN))
