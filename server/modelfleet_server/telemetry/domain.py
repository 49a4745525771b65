"""Sums and percentiles of what devices counted. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from modelfleet_manifests.report import LATENCY_BOUNDS_US


@dataclass(frozen=True, slots=True)
class Counts:
    """What one release did on one device in some time.

    Attributes:
        device: Device id.
        release: Release id.
        requests: Answered requests, failed ones included.
        errors: Failed ones.
        labelled: Answers whose true label came back.
        hits: Those that were right.
        buckets: Requests per bucket of `LATENCY_BOUNDS_US`, and one more above.
    """

    device: str
    release: str
    requests: int
    errors: int
    labelled: int
    hits: int
    buckets: tuple[int, ...]


def quantile_us(buckets: Sequence[int], share: float) -> int | None:
    """Return an upper bound of a quantile of the latency, in microseconds.

    Args:
        buckets: Requests per bucket.
        share: For example 0.99.

    Returns:
        The upper bound of the bucket that the quantile falls into; None without requests;
        the highest bound where it lies above all of them.
    """
    total = sum(buckets)
    if total == 0:
        return None
    rank, seen = share * total, 0
    for bound, count in zip(LATENCY_BOUNDS_US, buckets, strict=False):
        seen += count
        if seen >= rank:
            return bound
    return LATENCY_BOUNDS_US[-1]


def add_buckets(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    """Return the sums of two histograms with the same buckets."""
    return tuple(a + b for a, b in zip(one, other, strict=True))
