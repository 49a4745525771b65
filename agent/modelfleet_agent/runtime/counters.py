"""Counters of one release in one slot, and their Prometheus text."""

import threading
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from modelfleet_agent.clock import now_ms
from modelfleet_agent.runtime.messages import BOUNDS_US, ReleaseStatistics, Statistics
from modelfleet_agent.store.record import Record


@dataclass
class Counters:
    """What happened to the requests that one release answered; safe in threads."""

    slot: str
    record: Record
    requests: int = 0
    errors: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_US) + 1))
    latency_sum_us: int = 0
    labelled: int = 0
    hits: int = 0
    errors_us: int = 0
    run_sum_us: int = 0
    last_ms: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, latency_us: int, *, failed: bool, run_us: int = 0) -> None:
        """Count one answered request, of which `run_us` were spent in the model."""
        now = now_ms()
        with self._lock:
            self.last_ms = now
            self.run_sum_us += run_us
            self.requests += 1
            self.errors += failed
            self.errors_us += latency_us if failed else 0
            self.latency[bisect_left(BOUNDS_US, latency_us)] += 1
            self.latency_sum_us += latency_us

    def judge(self, answered: Iterable[int], labels: Iterable[int]) -> int:
        """Count labelled answers; return how many were hits."""
        right = [answer == label for answer, label in zip(answered, labels, strict=True)]
        with self._lock:
            self.labelled += len(right)
            self.hits += sum(right)
        return sum(right)

    def statistics(self, *, active: bool) -> ReleaseStatistics:
        """Return the counters as of now."""
        with self._lock:
            return ReleaseStatistics(
                slot=self.slot,
                key=self.record.key,
                release=self.record.release,
                digest=self.record.digest,
                version=self.record.version,
                active=active,
                requests=self.requests,
                errors=self.errors,
                latency=list(self.latency),
                latency_sum_us=self.latency_sum_us,
                labelled=self.labelled,
                hits=self.hits,
                errors_us=self.errors_us,
                run_sum_us=self.run_sum_us,
                last_ms=self.last_ms,
            )


_FAMILIES = (
    ("modelfleet_requests_total", "counter", "Answered requests.", "requests"),
    ("modelfleet_errors_total", "counter", "Requests that the model failed on.", "errors"),
    ("modelfleet_labelled_total", "counter", "Answers that got a label.", "labelled"),
    ("modelfleet_hits_total", "counter", "Labelled answers that were right.", "hits"),
    ("modelfleet_active", "gauge", "1 where this release answers the slot.", "active"),
)


def prometheus(statistics: Statistics) -> str:
    """Return the counters in Prometheus text format 0.0.4."""
    lines: list[str] = []
    for name, kind, meaning, attribute in _FAMILIES:
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        lines += [
            f"{name}{{{_labels(row)}}} {int(getattr(row, attribute))}"
            for row in statistics.releases
        ]
    lines += _histogram(statistics.releases)
    for name, kind, meaning, value in (
        (
            "modelfleet_rejected_total",
            "counter",
            "Refused, queue full.",
            statistics.rejected,
        ),
        ("modelfleet_resident_bytes", "gauge", "Memory.", statistics.rss_kib * 1024),
    ):
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", f"{name} {value}"]
    return "\n".join(lines) + "\n"


def _labels(row: ReleaseStatistics) -> str:
    pairs = ("slot", row.slot), ("release", row.release), ("version", row.version)
    return ",".join(f'{name}="{value}"' for name, value in (*pairs, ("digest", row.digest)))


def _histogram(rows: Iterable[ReleaseStatistics]) -> list[str]:
    name = "modelfleet_request_seconds"
    lines = [f"# HELP {name} Time to answer.", f"# TYPE {name} histogram"]
    for row in rows:
        labels, below = _labels(row), 0
        for bound, count in zip(BOUNDS_US, row.latency, strict=False):
            below += count
            lines.append(f'{name}_bucket{{{labels},le="{bound / 1e6:g}"}} {below}')
        lines += [
            f'{name}_bucket{{{labels},le="+Inf"}} {row.requests}',
            f"{name}_sum{{{labels}}} {row.latency_sum_us / 1e6:.6f}",
            f"{name}_count{{{labels}}} {row.requests}",
        ]
    return lines
